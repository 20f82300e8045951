"""Model risk: how far every published number may be trusted, and why.

From a fit come metrics, innovations against the last surface, charts of these, findings with their
evidence, and breakers that widen, hold or halt: pure functions over frozen values.
"""
