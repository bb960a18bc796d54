"""The tests. docs/test-suite.md describes them."""

from hypothesis import HealthCheck, settings

# A slow machine makes inputs slowly. That must not fail a test.
settings.register_profile("txvalkeycluster", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("txvalkeycluster")
