"""Damaged URLs and options give usable options, or a ValueError or TypeError without the password."""

from __future__ import annotations

import traceback
from random import Random
from typing import Any

from tests.cases import SynchronousTestCase
from tests.fuzz.inputs import damaged_text, for_inputs
from txvalkeycluster.address import parse_address
from txvalkeycluster.options import Options
from txvalkeycluster.seeds import parse_seeds

SECRET = "hunter2zzz"
# Stands for the password while the rest is damaged, so that the test can look for the password.
_MARK = "\u2603"
URLS = (
    f"valkey://user:{_MARK}@h:7000,[::1]:7001,10.0.0.1/1?timeout=2.5&refresh_period=none&warm_up=true",
    f"valkeys://:{_MARK}@host.example?server_name=h&trust_root=ca.pem&max_pending=5&topology_source=shards",
    f"redis://h:1/0?encoding=utf-8&encoding_errors=replace&password={_MARK}",
    f"rediss://%41b:{_MARK}%20@h?client_name=x&db=3&protocol=2&split_keys=0",
)
VALUES: dict[str, Any] = {
    "seeds": ["h:1", "[::1]:2"],
    "username": "u",
    "encoding": "utf-8",
    "client_name": "c",
    "db": 0,
    "protocol": 3,
    "timeout": 1.0,
    "connect_timeout": 1,
    "max_pending": 5,
    "max_nodes": 10,
    "topology_source": "nodes",
    "backoff_min": 0.1,
    "tls": True,
    "server_name": "n",
}
ODD: list[Any] = [
    None, True, -1, 0, 3.5, 1 << 80, float("nan"), float("inf"), "", "x", "h:1\n", "9" * 5000, "\ud800", b"x", b"\xff",
    (), [()], [("h", 1), ("h", "1")], ["h:0"], {}, object(),
]  # fmt: skip


class UrlTests(SynchronousTestCase):
    def read(self, url: str, **options: Any) -> None:
        try:
            made = Options.from_url(url, **options)
        except (ValueError, TypeError) as error:
            self.assertNotIn(SECRET, "".join(traceback.format_exception(error)))
            return
        # The client cannot know that a copy of the password, for example as a host name, is a password.
        if made.password and SECRET in made.password and url.count(SECRET) <= 1:
            self.assertNotIn(SECRET, repr(made))
        for host, port in made.seeds:
            self.assertTrue(host and 0 < port < 65536)

    def test_urls(self) -> None:
        """A URL may be damaged around the password."""

        def check(random: Random) -> None:
            url = damaged_text(random, random.choice(URLS)).replace(_MARK, SECRET)
            self.read(url)
            for default in (None, 6379):
                try:
                    self.assertTrue(0 < parse_address(url, default).port < 65536)
                except ValueError as error:
                    self.assertNotIn(SECRET, str(error))
            try:
                parse_seeds(url)
            except ValueError as error:
                self.assertNotIn(SECRET, str(error))

        for_inputs(7, "urls", check)

    def test_options(self) -> None:
        """Options may have any type and size."""

        def check(random: Random) -> None:
            names = random.sample(sorted(VALUES), random.randrange(1, 6))
            self.read("valkey://h", password=SECRET, **{name: random.choice([VALUES[name], *ODD]) for name in names})

        for_inputs(3, "options", check)
