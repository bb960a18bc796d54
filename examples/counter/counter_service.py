"""Counters in a Valkey cluster, with a JSON interface over HTTP.

    GET  /counters/NAME   {"name": NAME, "value": 3}
    POST /counters/NAME   adds 1, or the number of a body such as {"by": 5}
    GET  /healthz         200 as long as the process works
    GET  /readyz          200 if the cluster is known and answers, else 503
    GET  /metrics         for Prometheus

Run it in this folder, with ``VALKEY_URL`` and ``PYTHONPATH=.`` in the environment, in one of these ways:

    twistd --nodaemon --python=counter.tac
    twistd --nodaemon counter --listen=tcp:8080
    twist counter --listen=tcp:8080
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from prometheus_client.twisted import MetricsResource
from twisted.application import strports
from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python import usage
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txvalkeycluster import ClusterService, ValkeyError
from txvalkeycluster.prometheus import ClusterCollector

log = Logger()
Answer = tuple[int, dict[str, Any]]


class Options(usage.Options):
    """The command line of the plugin.  A URL with a password belongs in the environment: ``ps`` shows command lines."""

    optParameters = [  # noqa: RUF012  (Twisted declares it so)
        ["url", "u", None, "URL of the cluster; if it is not given, that of the variable VALKEY_URL."],
        ["listen", "l", os.environ.get("COUNTER_LISTEN", "tcp:8080:interface=127.0.0.1"), "Endpoint to listen on."],
        ["stop-timeout", None, 10.0, "How many seconds requests may take to end after SIGTERM.", float],
    ]

    def postOptions(self) -> None:
        """Take the URL from the environment if it is not given."""
        self["url"] = self["url"] or os.environ.get("VALKEY_URL")
        if not self["url"]:
            raise usage.UsageError("give --url, or set VALKEY_URL")


def makeService(options: Options) -> ClusterService[str]:
    """Return the service: the client of the cluster, with the web server as its child.

    The child stops first.  So a request that is being answered still has the client.
    """
    cluster = ClusterService(
        reactor, options["url"], stop_timeout=options["stop-timeout"], encoding="utf-8", client_name="counter"
    )
    ClusterCollector(cluster.client)
    WebService(cluster, options["listen"]).setServiceParent(cluster)
    return cluster


class WebService(MultiService):
    """The web server.  When it stops, it waits for the requests that are being answered."""

    def __init__(self, cluster: ClusterService[str], endpoint: str) -> None:
        super().__init__()
        self._api = Api(cluster)
        root = Resource()
        for name in (b"counters", b"healthz", b"readyz"):
            root.putChild(name, self._api)
        root.putChild(b"metrics", MetricsResource())
        strports.service(endpoint, Site(root)).setServiceParent(self)

    def stopService(self) -> Deferred[Any]:
        """Listen no more, and wait."""
        return DeferredList([super().stopService(), *self._api.answering])


class Api(Resource):
    """Answers each request with JSON."""

    isLeaf = True

    def __init__(self, cluster: ClusterService[str]) -> None:
        super().__init__()
        self._cluster = cluster
        self.answering: set[Deferred[None]] = set()

    def render(self, request: Request) -> int:
        """Begin to answer."""
        answer = Deferred.fromCoroutine(self._answer(request))
        if not answer.called:
            self.answering.add(answer)
            answer.addBoth(lambda _: self.answering.discard(answer))
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        method, path = (text.decode("ascii", "replace") for text in (request.method, request.path))
        content = request.content.read(1000) if request.content is not None else b""
        try:
            status, body = await self._route(method, path, content)
        except ValkeyError as error:
            log.warn("{method} {path} failed: {error}", method=method, path=path, error=error)
            # The caller must know whether it would count twice if it tried again.
            status, body = 503, {"error": "no answer", "maybe_counted": getattr(error, "maybe_executed", False)}
        except Exception:
            log.failure("{method} {path} failed", method=method, path=path)
            status, body = 500, {"error": "internal error"}
        if not gone:
            request.setResponseCode(status)
            request.setHeader(b"content-type", b"application/json")
            request.write(json.dumps(body).encode() + b"\n")
            request.finish()

    async def _route(self, method: str, path: str, body: bytes) -> Answer:
        client = self._cluster.client
        match method, path.strip("/").split("/"):
            case "GET" | "HEAD", ["healthz"]:
                return 200, {"status": "alive"}
            case "GET" | "HEAD", ["readyz"]:
                return await self._ready()
            case "GET" | "HEAD", ["counters", name] if re.fullmatch(r"[\w.-]{1,100}", name, re.A):
                return 200, {"name": name, "value": int(await client.get(f"counter:{name}") or 0)}
            case "POST", ["counters", name] if re.fullmatch(r"[\w.-]{1,100}", name, re.A):
                try:
                    by = json.loads(body)["by"] if body else 1
                except (ValueError, TypeError, KeyError, RecursionError):
                    by = None
                if type(by) is not int or abs(by) > 1_000_000:
                    return 400, {"error": 'the body must be empty, or such as {"by": 5}; at most 1000000'}
                return 200, {"name": name, "value": await client.incrby(f"counter:{name}", by)}
        return 404, {"error": "GET or POST /counters/NAME"}

    async def _ready(self) -> Answer:
        if not self._cluster.running:
            return 503, {"status": "stopping"}
        if not self._cluster.client.topology.primaries:
            return 503, {"status": "the cluster is not known yet"}
        try:
            await self._cluster.client.execute("PING", timeout=1.0)
        except ValkeyError:
            return 503, {"status": "the cluster does not answer"}
        return 200, {"status": "ready"}
