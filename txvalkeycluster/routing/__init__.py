"""Routing: which node a command goes to, and what an error means for it.

`router.Router` takes every command.  `plan` says from its arguments which nodes it is for, `slot_map` which node serves
a slot now.  What an error reply or a lost connection means is decided by the functions of `retry_policy`, which
`recovery` carries out: follow a redirect, wait, send again, or tell the caller.  `shutdown` ends everything.

`fanout` sends one command to many nodes, and `response_policy` makes one reply of theirs.  `units` runs what moves as a
whole: transactions and commands that block.  `refresh` keeps the slot map fresh.  `command_discovery` asks servers
about commands that no table holds, and `replica_wait` is WAIT for a whole client.  The public API is not known here.
"""
