"""The tests: see docs/testing.md."""

from hypothesis import HealthCheck, settings

# How fast a machine makes up inputs is no property of what is tested.
settings.register_profile("txvalkeycluster", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("txvalkeycluster")
