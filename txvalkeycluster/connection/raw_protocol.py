"""RawProtocol: a connection whose replies can be passed on as the server's own bytes.

It finds where each reply ends, and parses only the replies to requests that want a value.
"""

from __future__ import annotations

from typing import Any

from ..errors import ProtocolError, ReplyError
from ..framing import ReplyFramer
from ..requests.raw_batch import RawBatch, RawReplyError, error_text
from ..requests.request import MultiRequest, Request
from .protocol import NOTHING, RESPProtocol

# The server cannot send a larger bulk string than 512 MiB by default; a whole reply may be larger.
_LARGEST = 1 << 32
_ERRORS = frozenset(b"-!")
_PUSH = ord(">")
_ATTRIBUTE = ord("|")


class RawProtocol(RESPProtocol):
    """One connection to one node, for a client with ``raw_replies``."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._framer = ReplyFramer(_LARGEST)
        # The version in C reads parsed replies.
        self._next_reply = self._reader.gets

    def _deliver(self, data: bytes) -> None:
        sent = self._sent
        request: Request | None = None
        frames: list[bytes] = []
        unreadable: ProtocolError | None = None
        try:
            try:
                self._framer.feed(data, frames)
            except ProtocolError as error:
                # The replies before the invalid bytes are valid.
                unreadable = error
            plain = self._framer.plain
            place, count = 0, len(frames)
            while place < count:
                if plain and sent and isinstance(sent[0], RawBatch) and not sent[0].called:
                    batch = sent[0]
                    taken = batch.accept(frames, place)
                    place += taken
                    for _ in range(taken):
                        sent.popleft()
                    batch.settle()
                    continue
                frame = bare = frames[place]
                place += 1
                if frame[0] == _ATTRIBUTE:
                    bare = _without_attributes(frame)
                kind = bare[0]
                if kind == _PUSH:
                    self._pushed(self._parsed(bare))
                    continue
                if not sent:
                    if self.ended:
                        break
                    raise ProtocolError(f"{self.peer} sent a reply without a pending command")
                first = sent[0]
                if kind in _ERRORS:
                    sent.popleft()
                    self._refused(first, RawReplyError(bare) if first.unparsed else ReplyError(error_text(bare)))
                elif first.called:
                    sent.popleft()
                elif first.unparsed:
                    request = sent.popleft()
                    request.answer(frame)
                else:
                    # If this raises, the request is still in the queue, and is the one that fails.
                    reply = self._parsed(bare)
                    request = sent.popleft()
                    self._answer(request, reply)
            if sent and isinstance(sent[0], MultiRequest):
                # The other replies of the batch may be large and come much later.
                sent[0].hand_over()
            if unreadable is not None:
                raise unreadable
        except Exception as error:
            self._broken(error, request)

    def _parsed(self, frame: bytes) -> Any:
        self._reader.feed(frame)
        reply = self._reader.gets()
        # hiredis takes attributes inside of a reply for elements, so that others are left.
        if reply is NOTHING or self._reader.has_data():
            raise ProtocolError(f"{self.peer} sent a reply that cannot be parsed")
        return reply


def _without_attributes(frame: bytes) -> bytes:
    """Return the reply, or the push, that follows after attributes."""
    while frame[0] == _ATTRIBUTE:
        # As a map, the attributes are a frame of their own.
        frame = ReplyFramer(_LARGEST).feed(b"%" + frame[1:])[1]
    return frame
