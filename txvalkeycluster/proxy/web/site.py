"""The web site of a proxy: a status page, ``/healthz``, ``/readyz``, and ``/metrics`` for Prometheus.

The page shows addresses and errors that come from the network.  Its script puts them into the page as text only, and
the headers do not allow other scripts.  Nothing on the site holds a password, a key or a value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import INTERNAL_SERVER_ERROR, NOT_IMPLEMENTED, OK, SERVICE_UNAVAILABLE
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from ..snapshot import Snapshot
from .status import Readiness, Source

_log = Logger()
#: What ``/metrics`` says without the package prometheus_client.
NO_METRICS = "/metrics needs the package prometheus_client: pip install 'txvalkeycluster[prometheus]'"
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
# The status page: its paths, files and types.
_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "status.css": ("status.css", "text/css; charset=utf-8"),
    "status.js": ("status.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

# The status of HTTP, the type, and the content.
_Reply = tuple[int, str, bytes]


class _Page(Resource):
    """One page of the site."""

    isLeaf = True

    def __init__(self, take: Callable[[], Deferred[_Reply]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._take = take

    def render_GET(self, request: Request) -> int:
        """Write the page when it is known."""
        gone = request.notifyFinish()
        taking = self._take()

        def write(reply: _Reply) -> None:
            status, kind, content = reply
            request.setResponseCode(status)
            for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
                request.setHeader(name, value)  # type: ignore[no-untyped-call]
            request.write(content)  # type: ignore[no-untyped-call]
            request.finish()  # type: ignore[no-untyped-call]

        def refuse(failure: Failure) -> None:
            if not gone.called:
                text = f"{type(failure.value).__name__}: {failure.value}\n"
                write((INTERNAL_SERVER_ERROR, _TEXT, text.encode("utf-8", "replace")))

        gone.addErrback(lambda _: taking.cancel())
        taking.addCallback(write).addErrback(refuse)
        return NOT_DONE_YET


def _shown(values: dict[str, Any]) -> _Reply:
    return OK, _JSON, json.dumps(values, separators=(",", ":")).encode()


def _readiness(readiness: Readiness) -> _Reply:
    return OK if readiness.ready else SERVICE_UNAVAILABLE, _TEXT, f"{readiness.text}\n".encode("utf-8", "replace")


def _metrics(source: Source) -> Callable[[], Deferred[_Reply]]:
    if find_spec("prometheus_client") is None:
        _log.warn(NO_METRICS)
        return lambda: succeed((NOT_IMPLEMENTED, _TEXT, f"{NO_METRICS}\n".encode()))
    from .metrics import CONTENT_TYPE, metrics_text

    def written(snapshot: Snapshot) -> _Reply:
        return OK, CONTENT_TYPE, metrics_text(snapshot)

    return lambda: source.snapshot().addCallback(written)


def _file(name: str, kind: str) -> Callable[[], Deferred[_Reply]]:
    content = files(__package__).joinpath("page", name).read_bytes()
    return lambda: succeed((OK, kind, content))


class _Site(Site):
    """A web site that does not log every request."""

    noisy = False

    def log(self, request: object) -> None:
        """Write nothing."""


class ProxySite(WrappingFactory):
    """The web site, with its connections."""

    noisy = False

    def __init__(self, source: Source) -> None:
        """Make a site.

        Args:
            source: The proxy.
        """
        root = Resource()  # type: ignore[no-untyped-call]
        pages: dict[str, Callable[[], Deferred[_Reply]]] = {
            **{path: _file(*each) for path, each in _FILES.items()},
            "status.json": lambda: source.status().addCallback(_shown),
            "healthz": lambda: succeed((OK, _TEXT, b"the proxy runs\n")),
            "readyz": lambda: source.readiness().addCallback(_readiness),
            "metrics": _metrics(source),
        }
        for path, take in pages.items():
            root.putChild(path.encode(), _Page(take))
        super().__init__(_Site(root))  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Close all connections."""
        for connection in list(self.protocols):
            connection.loseConnection()
