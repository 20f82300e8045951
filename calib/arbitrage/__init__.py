"""Proofs that slices, pairs of expiries and whole surfaces are free of static arbitrage, with margins and scope.

Everything here is plain numpy, vectorised over slices or pairs, and returns frozen values.
"""
