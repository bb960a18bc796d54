"""What the proxy does with each command.

- ``dispatch``: what happens to each command.  ``handling``: starts a request.
- ``connection``, ``client_list``, ``whole_cluster``, ``info``, ``scans``: what the proxy answers itself, or what
  goes to all nodes.
- ``mget``: MGET over slots.  ``transactions``: MULTI and WATCH.  ``subscriptions``: SUBSCRIBE and the like.
- ``blocking``, ``several_slots``, ``list_waits``: commands that block.
"""
