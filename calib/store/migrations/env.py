"""How Alembic runs the migrations: on the connection, and in the transaction, that it is given."""

from alembic import context

from calib.store.schema import metadata

# Without it a process that is killed would leave half of the tables in an SQLite file.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
