"""RawProtocol: a connection whose replies can be passed on as the server's own bytes.

It finds where each reply ends, and parses only the replies to requests that want a value.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ..errors import ProtocolError
from ..framing import ReplyFramer
from ..requests.raw_batch import RawBatch, RawReplyError
from ..requests.request import MultiRequest, Request
from .protocol import NOTHING, RESPProtocol

# The server cannot send a larger bulk string than 512 MiB by default; a whole reply may be larger.
_LARGEST = 1 << 32
_ERRORS = frozenset(b"-!")
_PUSH = ord(">")
# The first bytes of the frames that are no plain replies: errors and pushes.
_UNUSUAL = frozenset(b"-!>")


class RawProtocol(RESPProtocol):
    """One connection to one node, for a client with ``raw_replies``."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._framer = ReplyFramer(_LARGEST)

    def _deliver(self, data: bytes) -> None:
        sent = self._sent
        request: Request | None = None
        try:
            frames = self._framer.feed(data)
            place, count = 0, len(frames)
            # Only the first frame can have begun in an earlier read.
            usual = count and frames[0][0] not in _UNUSUAL and not (b"\n-" in data or b"\n>" in data or b"\n!" in data)
            while place < count:
                if usual and sent and isinstance(sent[0], RawBatch) and not sent[0].called:
                    place += self._hand_out(sent[0], sent, frames, place)
                    continue
                frame = frames[place]
                place += 1
                first = frame[0]
                if first == _PUSH:
                    self._pushed(self._parsed(frame))
                    continue
                if not sent:
                    if self.ended:
                        break
                    raise ProtocolError(f"{self.peer} sent a reply without a pending command")
                request = sent.popleft()
                if first in _ERRORS:
                    self._refused(request, RawReplyError(frame) if request.unparsed else self._parsed(frame))
                elif not request.called:
                    if request.unparsed:
                        request.answer(frame)
                    else:
                        self._answer(request, self._parsed(frame))
            if sent and isinstance(sent[0], MultiRequest):
                sent[0].hand_over()
        except Exception as error:
            self._broken(error, request)

    def _hand_out(self, batch: RawBatch, sent: deque[Request], frames: list[bytes], place: int) -> int:
        """Give a batch as many frames as it still needs; return their number."""
        taken = batch.accept(frames, place)
        for _ in range(taken):
            sent.popleft()
        batch.settle()
        return taken

    def _parsed(self, frame: bytes) -> Any:
        self._reader.feed(frame)
        reply = self._reader.gets()
        if reply is NOTHING:
            raise ProtocolError(f"{self.peer} sent a reply that cannot be parsed")
        return reply
