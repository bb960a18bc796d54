"""The status page in a real browser, while the cluster changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from tests.proxy.browser import Browser
from tests.proxy.operation import OperationTests, TwistdProxy
from tests.proxy.programs import HOST, PlainClient, pause
from txvalkeycluster.proxy.snapshot import BUCKETS, Snapshot
from txvalkeycluster.proxy.web.site import ProxySite
from txvalkeycluster.proxy.web.status import Source
from txvalkeycluster.testing import Server
from txvalkeycluster.testing.ports import free_ports

# The text of the cells of the table of nodes.
_NODES = "[...document.querySelectorAll('#nodes tr')].map(row => [...row.cells].map(cell => cell.textContent))"
_EVENTS = "[...document.querySelectorAll('#events li span')].map(each => each.textContent)"
_BACKGROUND = "getComputedStyle(document.body).backgroundColor"
# The widest part of the page that is not in a box of its own that scrolls.
_WIDTH = "document.documentElement.scrollWidth"
_BREAKOUTS = (
    "[...document.querySelectorAll('body *')].filter(each => each.getClientRects().length"
    " && each.getBoundingClientRect().right > innerWidth).map(each => each.outerHTML.slice(0, 80))"
)
_MARKUP = "<img src=x onerror=document.title='changed'>"


def address_of(server: Server) -> str:
    """Return the address of a server as the page shows it."""
    return f"{HOST}:{server.port}"


class StatusPageTests(OperationTests):
    options: ClassVar[dict[str, Any]] = {"replicas": 1}

    async def setUp(self) -> None:  # type: ignore[override]
        self.browser = Browser()
        await super().setUp()
        self.addCleanup(self.browser.stop)
        await self.browser.start()

    async def page(self, workers: int) -> tuple[TwistdProxy, PlainClient]:
        """Start a proxy with a client, and open its page."""
        port, web = free_ports(HOST, 2)
        words = (f"--listen=tcp:{port}:interface={HOST}", f"--metrics=tcp:{web}:interface={HOST}")
        proxy = self.start(*words, f"--workers={workers}")
        await self.ready(proxy, port, workers)
        client = await self.plain(port)
        await self.browser.open(f"http://{HOST}:{web}/")
        # It is lost when the page is loaded again.
        await self.browser.evaluate("window.marked = true")
        return proxy, client

    async def shows(self, expression: str) -> None:
        """Wait until an expression is true on the page."""
        while not await self.browser.evaluate(f"Boolean({expression})"):
            await pause(0.1)

    async def role_of(self, server: Server) -> str:
        """Return the role of a node as the page shows it."""
        rows: list[list[str]] = await self.browser.evaluate(_NODES)
        (role,) = [row[1] for row in rows if row[0] == address_of(server)]
        return role

    async def load(self, client: PlainClient) -> None:
        """Send requests until the page shows numbers of them."""
        showing: Deferred[None] = Deferred.fromCoroutine(self.shows("/\\d/.test(p99.textContent)"))
        while not showing.called:
            await client.batch(*(("SET", f"key{number}", "x") for number in range(100)))

    async def changes(self, workers: int) -> None:
        """Let a replica take over, and look what the page shows."""
        _, client = await self.page(workers)
        await self.shows("state.textContent === 'ready'")
        primary, *_ = await self.cluster.primaries()
        replica, *_ = await self.cluster.replicas_of(primary)
        self.assertEqual(await self.role_of(primary), "primary")
        self.assertEqual(await self.role_of(replica), "replica")
        self.assertEqual(len(await self.browser.evaluate(_NODES)), 6)
        await self.load(client)
        for name in ("rate", "p50", "p95", "received", "sent", "error-rate"):
            self.assertRegex(await self.browser.evaluate(f"document.getElementById('{name}').textContent"), r"\d")
        self.assertEqual(await self.browser.evaluate("clients.textContent"), "1")
        # The picture of the slots has no hole.
        hole = "slots.getContext('2d').getImageData(0, 0, 256, 64).data.filter((_, at) => at % 4 == 3).includes(0)"
        self.assertFalse(await self.browser.evaluate(hole))
        self.assertEqual(await self.browser.evaluate("document.getElementById('workers').rows.length"), workers)

        await self.cluster.failover(replica)
        # The proxy notices it when a command is redirected.
        await client.batch(*(("SET", f"key{number}", "y") for number in range(100)))
        text = f"{address_of(replica)} is the primary of 5461 slots now, after {address_of(primary)}"
        await self.shows(f"{_EVENTS}.includes({text!r})")
        self.assertEqual((await self.browser.evaluate(_EVENTS)).count(text), 1)
        await self.shows(f"{_NODES}.some(row => row[0] === '{address_of(replica)}' && row[1] === 'primary')")
        self.assertEqual(await self.role_of(primary), "replica")
        self.assertTrue(await self.browser.evaluate("window.marked"))
        self.assertEqual(await self.browser.complaints(), [])

    async def test_a_failover(self) -> None:
        """The page shows the new primary and the event, without being loaded again."""
        await self.changes(0)

    async def test_a_failover_with_workers(self) -> None:
        """The same with the totals of several processes.  What both of them see is one event."""
        await self.changes(2)

    async def test_screens(self) -> None:
        """Nothing is wider than a phone, and there are a light and a dark page."""
        _, client = await self.page(2)
        await self.shows("state.textContent === 'ready'")
        primary, *_ = await self.cluster.primaries()
        await self.cluster.kill(primary)
        await self.cluster.wait_for_takeover(primary)
        for number in range(100):
            await client.call("SET", f"key{number}", "x")
        await self.shows(f"{_EVENTS}.some(text => text.includes('is the primary of'))")
        for width in (360, 760, 1400):
            await self.browser.resize(width, 800)
            self.assertEqual(await self.browser.evaluate("innerWidth"), width)
            self.assertLessEqual(await self.browser.evaluate(_WIDTH), width)
            self.assertEqual(await self.browser.evaluate(_BREAKOUTS), [])
        colours = []
        for scheme in ("light", "dark"):
            await self.browser.prefer(scheme)
            colours.append(await self.browser.evaluate(_BACKGROUND))
        self.assertEqual(colours, ["rgb(244, 245, 248)", "rgb(17, 20, 27)"])

    async def test_markup(self) -> None:
        """What comes from the network is text, whatever it looks like."""
        node = {"id": _MARKUP, "address": _MARKUP, "health": "online"}
        numbers = Snapshot(requests=1).as_json()
        shown = {
            "host": _MARKUP,
            "process": 1,
            "version": _MARKUP,
            "now": 1.0,
            "uptime": 1.0,
            "max_clients": 1,
            "ready": False,
            "text": _MARKUP,
            "numbers": {**numbers, "errors": {_MARKUP: 1}},
            "buckets": BUCKETS,
            "workers": [{"number": _MARKUP, "state": _MARKUP, "clients": 1, "requests": 1}],
            "shards": [{"primary": node, "replicas": [{**node, "health": _MARKUP}], "slots": "", "slot_count": 0}],
            "nodes": {},
            "failed": {_MARKUP: _MARKUP},
            "events": [{"number": 1, "time": 1.0, "level": _MARKUP, "text": _MARKUP}],
        }
        source = SimpleNamespace(status=lambda: succeed(shown), snapshot=None, readiness=None)
        site = ProxySite(cast(Source, source))
        listening: Any = reactor
        port = listening.listenTCP(0, site, interface=HOST)
        self.addCleanup(port.stopListening)
        self.addCleanup(site.end)
        await self.browser.open(f"http://{HOST}:{port.getHost().port}/")
        await self.shows("document.body.textContent.split('<img').length > 11")
        self.assertEqual(await self.browser.evaluate("document.images.length"), 0)
        self.assertEqual(await self.browser.complaints(), [])
        # And if something got around that, the headers would stop it.
        await self.browser.evaluate("document.body.insertAdjacentHTML('beforeend', `" + _MARKUP + "`)")
        while not (complaints := await self.browser.complaints()):
            await pause(0.1)
        self.assertIn("Content Security Policy", "".join(complaints))
        self.assertNotEqual(await self.browser.evaluate("document.title"), "changed")

    async def test_a_proxy_that_is_gone(self) -> None:
        """The page says that there is no answer, and goes on when the proxy has been started again."""
        port, web = free_ports(HOST, 2)
        words = (f"--listen=tcp:{port}:interface={HOST}", f"--metrics=tcp:{web}:interface={HOST}")
        proxy = self.start(*words)
        await self.ready(proxy, port)
        await self.browser.open(f"http://{HOST}:{web}/")
        await self.shows("state.textContent === 'ready'")
        await self.browser.evaluate("window.marked = true")
        proxy.process.kill()
        await proxy.ended()
        await self.shows("state.textContent === 'no answer'")
        proxy = self.start(*words)
        await self.ready(proxy, port)
        await self.shows(f"state.textContent === 'ready' && about.textContent.includes('process {proxy.process.pid}')")
        self.assertTrue(await self.browser.evaluate("window.marked"))
