"""Smile models as pure formulas of total variance in log-moneyness: raw SVI, eSSVI and SABR.

They are written on the array namespace of their arguments, so that one formula serves numpy and
jax alike; nothing here imports jax.
"""
