"""Routing: it chooses the node of each command, and decides what to do after an error.

`router.Router` takes every command, and sends those with one key.  `planned_commands` sends all others; `plan` chooses
their nodes from the arguments.  `slot_map` knows which node serves a slot.  `retry_policy` decides what to do after an
error reply or a lost connection.  `recovery` does it: it follows a redirect, lets the command wait, sends it again, or
fails it.  `redirect_check` asks another node about redirects to unknown addresses.  `shutdown` closes or aborts the
client.

`fanout` sends one command to many nodes, and `response_policy` combines their replies.  `transaction_request` sends
MULTI, the commands and EXEC as one request, and `transaction_outcome` interprets the replies.  `pipeline_run` sends
many commands, and `results_in_order` awaits a coroutine function for each of their results.  `batches` sorts the
commands of both by node.  `full_queues` holds what is relayed to nodes without room.  `refresh` keeps the slot map up
to date.  `command_discovery` asks a server about unknown commands.  `replica_wait` implements WAIT and WAITAOF for the
whole client.  `observation` reports the ends of commands to listeners.

This package does not use the public API.
"""
