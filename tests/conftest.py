"""What every test shares."""

from hypothesis import HealthCheck, settings

# The same examples on every machine, and no verdict that depends on how busy it is.
settings.register_profile(
    "calib", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("calib")
