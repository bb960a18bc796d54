"""Routing: which node a command goes to, and what an error means for it.

`router.Router` takes every command.  `plan` says from its arguments which nodes it is for, `slot_map` which node
serves a slot now.  `retry_policy` decides what an error reply or a lost connection means, and `recovery` does it:
follow a redirect, wait, send again, or tell the caller.  `redirect_check` has redirects to unknown addresses
confirmed. `shutdown` ends everything.

`fanout` sends one command to many nodes, and `response_policy` makes one reply of theirs.  `transaction_request` is
MULTI, the commands and EXEC as one request, and `transaction_outcome` judges its replies.  `pipeline_run` sends very
many commands, and `results_in_order` awaits a coroutine for each result.  `refresh` keeps the slot map fresh.
`command_discovery` asks servers about commands that no table holds, and `replica_wait` is WAIT for a whole client.
The public API is not known here.
"""
