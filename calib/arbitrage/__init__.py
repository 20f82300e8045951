"""Proofs that slices, pairs of expiries and whole surfaces are free of static arbitrage.

Everything here is plain numpy, vectorised over slices or pairs, rounding included, and returns
frozen values with margins; what cannot be decided counts as not proved.
"""
