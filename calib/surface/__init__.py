"""The published surface: an immutable value, and the rule by which it is evaluated, in plain numpy.

Its forms for others (protobuf, JSON, data frames) are made on request, and nothing here needs jax.
"""
