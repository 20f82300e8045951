"""The quote table: reading, validation row by row, and the chains that its rows make.

Everything here is plain numpy; a row that cannot be used stays, with a reason."""
