"""Makes the counter a plugin of twist and twistd.  This folder has no ``__init__.py``, as for all plugins."""

from twisted.application.service import ServiceMaker

counter = ServiceMaker("counter", "counter_service", "A JSON counter on a Valkey cluster.", "counter")
