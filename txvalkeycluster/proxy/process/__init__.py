"""The proxy as a process, or as several.

- ``tap``: the options of ``twistd valkey-proxy``.  ``service``: the Twisted service.
- ``supervisor``, ``worker_process``, ``worker_answers``, ``worker``, ``peers``: several processes.
- ``listening``, ``mutual_tls``, ``website``: endpoints and ports.  ``json_log``: the log as JSON.
"""
