"""Proofs that slices, pairs of expiries and whole surfaces are free of static arbitrage.

Vectorised over slices or pairs, rounding included; frozen values with margins come back, and what
cannot be decided counts as not proved. The formulas run on numpy and on jax: a compiled first look
decides nearly everything, and the branch and bound of each proof the rest.
"""
