"""Generates the table of commands and the typed methods.  Run it with ``python -m gencmd``.

``python -m gencmd.proxy_page`` writes docs/proxy-commands.md, and ``python -m gencmd.version_page``
docs/command-versions.md.
"""
