"""Commands that have no single key in a known place: for any node, for several nodes, blocking, or unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred

from ..commands import Command
from ..commands.encoder import Arg, pack
from ..commands.overrides import SPREAD
from ..connection.node import NodeConnection
from ..errors import RoutingError
from ..requests.delegated import UnroutedCall
from ..requests.exclusive import BlockingCall, ExclusiveCall
from ..requests.request import Call
from ..requests.retry_queue import RetryQueue
from ..requests.target import ANY_NODE, THIS_NODE, Target
from ..slots import argument_slot
from .fanout import send_apart, send_parts, send_to_all
from .plan import Scope, plan_command

if TYPE_CHECKING:
    from .router import Router


class Terms(NamedTuple):
    """How to treat a command, apart from its arguments."""

    #: Whether a command may be split that has keys in several slots.
    split_keys: bool
    #: Whether the command was accepted before.  Then it is sent even if the client has been closed meanwhile, and its
    #: Deferred may fail before `Router.execute` returns.
    admitted: bool = False


class PlannedCommands:
    """Sends the commands for which `Router.execute` needs a plan."""

    def __init__(self, router: Router) -> None:
        """Make it.

        Args:
            router: The router, which gives its commands to this.
        """
        self._router = router

    def execute(
        self,
        command: Command,
        args: Sequence[Arg],
        timeout: float | None,
        repeatable: bool,
        terms: Terms,
        make: Callable[..., Call],
    ) -> Deferred[Any]:
        """Send a command that is not `keyed`: it has no key, or several, or a key at another position.

        Args:
            command: The command, resolved to its subcommand.
            args: The name of the command and its arguments.
            timeout: As for `Router.execute`.
            repeatable: As for `Router.execute`.
            terms: How to treat the command.
            make: Makes the call of a command for one node.

        Returns:
            The Deferred of the caller.
        """
        done = self._by_plan(command, args, timeout, repeatable, terms.split_keys, make)
        return done if terms.admitted else self._router.next_turn.postponed(done)

    def _by_plan(
        self,
        command: Command,
        args: Sequence[Arg],
        timeout: float | None,
        repeatable: bool,
        split_keys: bool,
        make: Callable[..., Call],
    ) -> Deferred[Any]:
        command.check_allowed(args)
        router = self._router
        now, deadline = router.clock.seconds(), router.deadline_of(timeout)
        repeatable = repeatable or command.repeatable
        if not command.known:
            return self._put_off(router.recovery.discovery.queue, command, args, now, deadline, repeatable, split_keys)
        plan = plan_command(command, args, split=split_keys)
        if plan.scope in (Scope.SHARDS, Scope.NODES):
            if not router.topology.version:
                return self._put_off(router.recovery.unserved, command, args, now, deadline, repeatable, split_keys)
            return self._send_to_all(command, args, plan.scope, now, deadline)
        cancel = router.note_cancel
        if plan.scope is Scope.SLOTS:
            return send_parts(command, args, plan.slots, router.destinations, cancel, now, deadline, repeatable)
        if command.blocks(args):
            return router.route(self._blocking(command, args, plan.target, time_left(now, deadline), repeatable))
        target = plan.target if plan.target is not ANY_NODE else self._any_target(command, args)
        return router.route(make(pack(args), command, target, now, deadline, repeatable, cancel))

    def _any_target(self, command: Command, args: Sequence[Arg]) -> Target:
        """Select a node for a command that every node can execute."""
        place = SPREAD.get(command.name, 0)
        if not 0 < place < len(args):
            return ANY_NODE
        slot = argument_slot(args[place])
        # A slot without an owner must not delay the command.
        return slot if isinstance(self._router.destinations[slot], NodeConnection) else ANY_NODE

    def execute_on(
        self, node: NodeConnection, command: Command, args: Sequence[Arg], timeout: float | None
    ) -> Deferred[Any]:
        """Send a command to one node, as `Router.execute_on`."""
        router = self._router
        if command.name in ("WAIT", "WAITAOF"):
            return self._wait_for_replicas(command, args, node)
        now, deadline = router.clock.seconds(), router.deadline_of(timeout)
        call: Call
        if command.blocks(args):
            call = self._blocking(command, args, THIS_NODE, timeout)
        elif command.response_policy == "one_succeeded":
            call = self._apart(command, args, deadline)
        else:
            call = Call(pack(args), command, THIS_NODE, now, deadline, canceller=router.note_cancel)
        call.give_to(node)
        return call

    def _blocking(
        self, command: Command, args: Sequence[Arg], target: Target, timeout: float | None, repeatable: bool = False
    ) -> BlockingCall:
        now: float = self._router.clock.seconds()
        return BlockingCall(tuple(args), command, target, now, timeout, repeatable, self._router.note_cancel)

    def _apart(self, command: Command, args: Sequence[Arg], deadline: float) -> ExclusiveCall:
        """Make a call with a connection of its own, so that it does not wait behind other commands of the node."""
        now: float = self._router.clock.seconds()
        return ExclusiveCall(pack(args), command, THIS_NODE, now, deadline, False, self._router.note_cancel)

    def _send_to_all(
        self, command: Command, args: Sequence[Arg], scope: Scope, now: float, deadline: float
    ) -> Deferred[Any]:
        """Send a command to every primary or every node."""
        shards = [s for s in self._router.topology.shards if s.primary is not None and s.primary.address is not None]
        listed = [shard.primary for shard in shards] if scope is Scope.SHARDS else self._router.topology.nodes
        addresses = [node.address for node in listed if node is not None]
        nodes = [self._router.factory.node_at(address) for address in addresses if address is not None]
        if not nodes:
            raise RoutingError(f"{command.name} is for several nodes, but the slot map has no address of any node")
        if command.blocks(args):
            return self._wait_for_replicas(command, args)
        if command.response_policy == "one_succeeded":
            # SCRIPT KILL and FUNCTION KILL: on the shared connection, they would wait for the script that they end.
            calls = [self._apart(command, args, deadline) for _ in nodes]
            return send_apart(command, nodes, calls)
        leads = shards if scope is Scope.SHARDS else None
        return send_to_all(command, pack(args), nodes, leads, self._router.note_cancel, now, deadline)

    def _wait_for_replicas(
        self, command: Command, args: Sequence[Arg], only: NodeConnection | None = None
    ) -> Deferred[Any]:
        """Send WAIT or WAITAOF, which have a timeout argument and no deadline."""
        self._router.factory.thread.check()
        return self._router.delegate(command, Deferred.fromCoroutine(self._router.replica_wait.wait(tuple(args), only)))

    def _put_off(
        self,
        queue: RetryQueue,
        command: Command,
        args: Sequence[Arg],
        now: float,
        deadline: float,
        repeatable: bool,
        split_keys: bool,
    ) -> Deferred[Any]:
        """Let a command wait that cannot be routed yet: there is no slot map, or the command is unknown."""
        call = UnroutedCall(tuple(args), command, now, deadline, repeatable, self._router.note_cancel, split_keys)
        queue.send(call)
        return call


def time_left(now: float, deadline: float) -> float | None:
    """Return the seconds until a deadline; None if there is none."""
    return None if deadline == inf else max(deadline - now, 0.0)
