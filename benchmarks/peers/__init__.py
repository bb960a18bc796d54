"""The clients, each brought to the same few methods; a module's name is the client's.

``connect`` takes the addresses of the nodes and the CA certificate's file, or None without TLS.  Those on Twisted take
the reactor first, and say with ``REACTOR`` what installs it.
"""
