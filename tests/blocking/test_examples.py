"""The samples for threads: a cache backend for Django, Flask, Celery, and the lines for the REPL."""

from __future__ import annotations

import doctest
import importlib
import os
import sys
from time import sleep
from typing import Any

from tests.blocking.base import ROOT, BlockingTests, in_threads, url


class ExampleTests(BlockingTests):
    def load(self, name: str, needed: str) -> Any:
        """Import an example; skip the test if the library that it needs is not installed."""
        try:
            importlib.import_module(needed)
        except ImportError:
            self.skipTest(f"{needed} is not installed")
        self.patch(os, "environ", {**os.environ, "VALKEY_URL": url()})
        self.patch(sys, "path", [str(ROOT / "examples"), *sys.path])
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    def test_django_cache(self) -> None:
        """The backend does what Django's own backends do."""
        module = self.load("django_cache", "django")
        settings = importlib.import_module("django.conf").settings
        if not settings.configured:
            settings.configure()
        cache = module.ValkeyClusterCache(url(), {"KEY_PREFIX": "shop*", "TIMEOUT": 60, "OPTIONS": {"timeout": 5.0}})
        other = module.ValkeyClusterCache(url(), {"KEY_PREFIX": "shop*", "OPTIONS": {"timeout": 5.0}})
        beside = module.ValkeyClusterCache(url(), {"KEY_PREFIX": "shopping"})
        self.addCleanup(beside._client.close)
        self.addCleanup(cache._client.close)
        self.assertIs(other._client, cache._client)
        value = {"a": [1, 2.5, None], "b": "text"}
        cache.set("one", value)
        self.assertEqual((cache.get("one"), other.get("one"), beside.get("one")), (value, value, None))
        self.assertEqual((cache.get("none"), cache.get("none", 5), cache.get("one", version=2)), (None, 5, None))
        self.assertEqual((cache.add("one", 2), cache.add("two", 2)), (False, True))
        self.assertEqual((cache.incr("two"), cache.incr("two", 5), cache.decr("two"), cache.get("two")), (3, 8, 7, 7))
        self.assertRaises(ValueError, cache.incr, "none")
        cache.set("true", True)
        self.assertIs(cache.get("true"), True)
        self.assertEqual((cache.has_key("one"), "one" in cache, "none" in cache), (True, True, False))
        self.assertEqual((cache.delete("one"), cache.delete("one")), (True, False))
        self.assertEqual(cache.set_many({f"many:{n}": n for n in range(50)}), [])
        names = [f"many:{n}" for n in range(55)]
        self.assertEqual(cache.get_many(names), {f"many:{n}": n for n in range(50)})
        self.assertEqual(cache.get_many([]), {})
        cache.delete_many(names[:40])
        self.assertEqual(len(cache.get_many(names)), 10)
        # Times to live.
        cache.set("short", 1, timeout=0.05)
        cache.set("forever", 1, timeout=None)
        cache.set("two", 1, timeout=0)
        self.assertEqual((cache.get("two"), cache.add("zero", 1, timeout=0), cache.get("zero")), (None, True, None))
        self.assertEqual(cache.set_many({"zero": 1}, timeout=0), [])
        sleep(0.1)
        self.assertEqual((cache.get("short"), cache.get("forever")), (None, 1))
        self.assertEqual((cache.touch("forever", 0.05), cache.touch("none", 5)), (True, False))
        sleep(0.1)
        self.assertIsNone(cache.get("forever"))
        cache.set("kept", 1, timeout=0.05)
        self.assertEqual((cache.touch("kept", None), cache.touch("none", None)), (True, False))
        sleep(0.1)
        self.assertEqual(cache.get("kept"), 1)
        self.assertEqual(cache.incr_version("kept"), 2)
        self.assertEqual((cache.get("kept"), cache.get("kept", version=2)), (None, 1))
        self.assertEqual(cache.get_or_set("computed", lambda: 7), 7)
        # Only the values of this cache.
        beside.set("one", 1)
        cache.clear()
        self.assertEqual((cache.get("computed"), beside.get("one")), (None, 1))

    def test_flask(self) -> None:
        """Requests in threads share the client; an error of the cluster is 503."""
        module = self.load("flask_visits", "flask")
        self.addCleanup(module.client.close)
        counts: list[int] = []

        def visit(_: int) -> None:
            for _ in range(10):
                counts.append(module.app.test_client().get("/home").json["visits"])

        self.join(in_threads(visit, 8))
        self.assertEqual(sorted(counts), list(range(1, 81)))
        module.client.close()
        answer = module.app.test_client().get("/home")
        self.assertEqual((answer.status_code, answer.json), (503, {"error": "ClientClosed"}))

    def test_celery(self) -> None:
        """A task that runs twice counts its order once."""
        module = self.load("celery_tasks", "celery")
        self.addCleanup(module.client.close)
        module.app.conf.update(task_always_eager=True)
        run = [module.count_order.delay(order, 5).get() for order in ("shop-1", "shop-2", "shop-1", "shop-3")]
        self.assertEqual(run, [5, 10, 10, 15])

    def test_the_repl(self) -> None:
        """The lines of docs/threads.md print what the page says."""
        text = (ROOT / "docs/threads.md").read_text()
        self.client().delete("user:1")
        address = url().split("/")[2].split(",")[0]
        test = doctest.DocTestParser().get_doctest(text.replace("127.0.0.1:7000", address), {}, "threads.md", None, 0)
        self.assertEqual(len(test.examples), 6)
        out: list[str] = []
        result = doctest.DocTestRunner(verbose=False).run(test, out=out.append)
        self.assertEqual((result.failed, "".join(out)), (0, ""))
