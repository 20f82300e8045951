"""The fit: one damped least-squares solver on batches of smiles, generic over models.

`calib.fitting.fit` is the door; the engine, the batch jobs and the notebooks all enter by it."""
