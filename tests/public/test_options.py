"""Options from URLs and keywords, their validation, and passwords, which must not be shown."""

import random
import traceback
from dataclasses import FrozenInstanceError, fields
from typing import Any
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.cases import SynchronousTestCase
from txvalkeycluster import ClusterClient
from txvalkeycluster.address import Address, parse_address
from txvalkeycluster.options import ClientOptions, Options
from txvalkeycluster.seeds import parse_seeds

SECRET = "hunter2zzz"
HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True) | st.ip_addresses().map(str)
PORTS = st.integers(1, 65535)


class AddressTests(SynchronousTestCase):
    @given(HOSTS, PORTS)
    def test_text_reads_back(self, host: str, port: int) -> None:
        """The text of an address is read as the same address."""
        address = Address(host, port)
        self.assertEqual(parse_address(str(address)), address)
        self.assertEqual(parse_address(str(address), 6379), address)
        self.assertEqual(parse_address(f"{host}:{port}"), address)

    def test_default_port(self) -> None:
        """Users may leave out the port, servers may not."""
        for text, host in [("h", "h"), ("h:", "h"), ("[::1]", "::1"), ("[::1]:", "::1"), ("", "")]:
            self.assertEqual(parse_address(text, 6379), Address(host, 6379), text)
            self.assertRaises(ValueError, parse_address, text)

    def test_malformed(self) -> None:
        """Wrong brackets, colons and ports are refused, and the error does not repeat the text."""
        for text in [
            "[::1", "[::1]7000", "[::1]]:1", "[[::1]]:1", "h:0", "h:65536", "h:-1", "h:+1", "h: 1", "h:1 ", "h:x",
            "h:1_0", "h:\u0661", "h:\u00b2", "h:" + "9" * 5000, "::1", "::1:7000", "h:1:2", ":" * 50,
        ]:  # fmt: skip
            error = self.assertRaises(ValueError, parse_address, text, 6379)
            self.assertNotIn(text, str(error))

    @given(st.text(alphabet="[]:.@/%0123456789ah\u00b2 ", max_size=12))
    def test_any_text_is_an_address_or_a_value_error(self, text: str) -> None:
        """Any text gives an address or a ValueError."""
        for default in (None, 6379):
            try:
                address = parse_address(text, default)
            except ValueError:
                continue
            self.assertTrue(0 < address.port < 65536)


class UrlTests(SynchronousTestCase):
    def test_schemes(self) -> None:
        """Two schemes are without TLS and two are with TLS."""
        for scheme, tls in [("valkey", False), ("redis", False), ("valkeys", True), ("rediss", True)]:
            options = Options.from_url(f"{scheme}://h:1")
            self.assertEqual((options.tls, options.seeds), (tls, (Address("h", 1),)))

    def test_other_schemes(self) -> None:
        """Any other scheme is refused, and the error names the right schemes."""
        for url in [
            "", "h:1", "://h:1", "http://h:1", "valkey:h:1", "valkey:/h:1", " valkey://h:1", "unix:///tmp/x", "valkey",
        ]:  # fmt: skip
            self.assertIn("valkeys://", str(self.assertRaises(ValueError, Options.from_url, url)))

    def test_seeds(self) -> None:
        """Seeds are names or IP addresses, with or without port, and keep their order."""
        for hosts, seeds in [
            ("h", [("h", 6379)]),
            ("a:1,b:2,c", [("a", 1), ("b", 2), ("c", 6379)]),
            ("a:1, b:2 ,c", [("a", 1), ("b", 2), ("c", 6379)]),
            ("[::1]:7200,[::2],10.0.0.1:3", [("::1", 7200), ("::2", 6379), ("10.0.0.1", 3)]),
            ("[fe80::1%eth0]:1", [("fe80::1%eth0", 1)]),
        ]:
            expected = tuple(Address(*seed) for seed in seeds)
            self.assertEqual(Options.from_url(f"valkey://{hosts}").seeds, expected)
            self.assertEqual(Options.from_url(f"valkey://u:p@{hosts}/0").seeds, expected)
            self.assertEqual(parse_seeds(hosts), expected)

    def test_bad_seeds(self) -> None:
        """The error has the number of the wrong seed."""
        for hosts, number in [
            ("", 1), (",a", 1), ("a,", 2), ("a,,b", 2), (":7000", 1), ("a:1,b:0", 2), ("a:1,b:2,c:x", 3), ("[]:1", 1),
            ("::1", 1), ("a,::1:7000", 2), ("[::1", 1), ("a b:1", 1), ("a:1 b:2", 1), ("a\tb", 1), ("a#b", 1),
        ]:  # fmt: skip
            error = self.assertRaises(ValueError, Options.from_url, f"valkey://{hosts}")
            self.assertIn(f"seed {number}: ", str(error), hosts)

    @given(st.text(min_size=1), st.text(), st.lists(st.tuples(HOSTS, PORTS), min_size=1, max_size=3))
    def test_user_and_password(self, username: str, password: str, seeds: list[tuple[str, int]]) -> None:
        """With percent-encoding, user and password may contain any characters."""
        hosts = ",".join(str(Address(*seed)) for seed in seeds)
        options = Options.from_url(f"valkey://{quote(username, safe='')}:{quote(password, safe='')}@{hosts}/7")
        self.assertEqual((options.username, options.password, options.db), (username, password, 7))
        self.assertEqual(options.seeds, tuple(seeds))

    def test_forms_of_user_info(self) -> None:
        """The user info may be missing, have no user, or have characters that need no encoding."""
        for user_info, username, password in [
            ("", None, None),
            ("@", None, None),
            (":p@", None, "p"),
            ("u:@", "u", ""),
            ("u:p:q@", "u", "p:q"),
            ("u:p@q@", "u", "p@q"),
            ("u:%70%2F%3f%40+@", "u", "p/?@+"),
            ("u%3Av:100%25@", "u:v", "100%"),
        ]:
            options = Options.from_url(f"valkey://{user_info}h:1")
            self.assertEqual((options.username, options.password), (username, password), user_info)

    def test_user_without_password(self) -> None:
        """A user alone is refused, unless a keyword gives the password."""
        self.assertRaises(ValueError, Options.from_url, "valkey://u@h")
        options = Options.from_url("valkey://u@h", password="p")
        self.assertEqual((options.username, options.password), ("u", "p"))

    def test_percent_encoding_must_be_utf8(self) -> None:
        """Encoded bytes that are not UTF-8 are refused, not replaced."""
        for user_info in ("u:%ff", "%ff:p", ":a%C3"):
            self.assertRaises(ValueError, Options.from_url, f"valkey://{user_info}@h")

    def test_database(self) -> None:
        """The path is the number of a database, or empty."""
        for path, db in [("", 0), ("/", 0), ("/0", 0), ("/15", 15)]:
            self.assertEqual(Options.from_url(f"valkey://h{path}").db, db)
            self.assertEqual(Options.from_url(f"valkey://h{path}?timeout=1").db, db)
        for path in ["/x", "/-1", "/1/", "/1/2", "//", "/ 1", "/1.0", "/\u00b2", "/\u0661", "/0x1", "/1#f"]:
            error = self.assertRaises(ValueError, Options.from_url, f"valkey://h{path}")
            self.assertIn("number of a database", str(error), path)

    def test_parameters(self) -> None:
        """A parameter is converted to the type of its option."""
        for query, name, value in [
            ("protocol=2", "protocol", 2),
            ("db=3", "db", 3),
            ("max_pending=7", "max_pending", 7),
            ("max_unsent_bytes=1024", "max_unsent_bytes", 1024),
            ("timeout=1.5", "timeout", 1.5),
            ("timeout=1e-3", "timeout", 0.001),
            ("timeout=none", "timeout", None),
            ("refresh_period=none", "refresh_period", None),
            ("connect_timeout=3", "connect_timeout", 3.0),
            ("unresponsive_after=3", "unresponsive_after", 3.0),
            ("close_timeout=.5", "close_timeout", 0.5),
            ("refresh_interval=2", "refresh_interval", 2.0),
            ("backoff_min=0.5", "backoff_min", 0.5),
            ("backoff_max=5", "backoff_max", 5.0),
            ("warm_up=true", "warm_up", True),
            ("warm_up=TRUE", "warm_up", True),
            ("warm_up=1", "warm_up", True),
            ("warm_up=0", "warm_up", False),
            ("warm_up=false", "warm_up", False),
            ("encoding=utf-8", "encoding", "utf-8"),
            ("encoding_errors=replace", "encoding_errors", "replace"),
            ("client_name=a%26b", "client_name", "a&b"),
            ("topology_source=shards", "topology_source", "shards"),
            ("server_name=valkey.example", "server_name", "valkey.example"),
            ("trust_root=/etc/ca%20s.pem", "trust_root", "/etc/ca s.pem"),
            ("client_certificate=/me@home.pem", "client_certificate", "/me@home.pem"),
        ]:
            got = getattr(Options.from_url(f"valkeys://h?{query}"), name)
            self.assertEqual((got, type(got)), (value, type(value)), query)

    def test_several_parameters(self) -> None:
        """Parameters are independent, and empty ones are ignored."""
        options = Options.from_url("valkey://h/1?timeout=2&&warm_up=1&")
        self.assertEqual((options.db, options.timeout, options.warm_up), (1, 2.0, True))
        self.assertEqual(Options.from_url("valkey://h?").timeout, Options().timeout)

    def test_values_of_the_wrong_type(self) -> None:
        """The error names the parameter and its type."""
        for query, kind in [
            ("protocol=three", "int"), ("protocol=", "int"), ("protocol=3.0", "int"), ("db=none", "int"),
            ("max_pending=none", "int"), ("timeout=", "float | None"), ("timeout=soon", "float | None"),
            ("timeout", "float | None"),
            ("connect_timeout=none", "float"), ("warm_up=", "bool"), ("warm_up=2", "bool"), ("warm_up=yes", "bool"),
        ]:  # fmt: skip
            error = self.assertRaises(ValueError, Options.from_url, f"valkey://h?{query}")
            self.assertIn(f"parameter {query.partition('=')[0]} is not a valid {kind}", str(error))

    def test_options_that_are_not_parameters(self) -> None:
        """Callables, secrets, parts of the URL and unknown names are refused, and the error does not repeat them."""
        for name in [
            "endpoint_for", "address_map", "on_socket", "commands", "random", "password", "username", "tls", "seeds",
            "timout", "Timeout", "__init__", "",
        ]:  # fmt: skip
            error = self.assertRaises(ValueError, Options.from_url, f"valkey://h?timeout=1&{name}=x")
            self.assertIn("parameter 2 of the URL is not an option", str(error))
            self.assertNotIn(name or "=", str(error))

    def test_every_option_is_a_parameter_or_refused(self) -> None:
        """Every option in a URL is read or is a ValueError."""
        for option in fields(Options):
            try:
                Options.from_url(f"valkeys://h?{option.name}=1")
            except ValueError as error:
                self.assertTrue(str(error))

    def test_keywords_win(self) -> None:
        """A keyword replaces the part of the URL with the same meaning."""
        options = Options.from_url(
            "valkeys://u:p@h:1/2?timeout=3&warm_up=1",
            tls=False, username="v", password="q", seeds="i:9", db=4, timeout=None, warm_up=False,
        )  # fmt: skip
        self.assertEqual((options.tls, options.username, options.password), (False, "v", "q"))
        self.assertEqual((options.seeds, options.db), ((Address("i", 9),), 4))
        self.assertEqual((options.timeout, options.warm_up), (None, False))

    def test_unknown_keywords(self) -> None:
        """The TypeError names the keyword and the option with the most similar spelling."""
        for make in (
            lambda **options: Options.from_url("valkey://h", **options),
            lambda **options: ClusterClient(Clock(), seeds="h:1", **options),
        ):
            error = self.assertRaises(TypeError, make, timeout=1, timout=1)
            self.assertEqual(str(error), "there is no option 'timout'; did you mean 'timeout'?")
            error = self.assertRaises(TypeError, make, qqqq=1)
            self.assertEqual(str(error), "there is no option 'qqqq'")

    def test_typed_keywords(self) -> None:
        """The typed keywords are the options. ``encoding`` is typed apart, because the client's type depends on it."""
        self.assertEqual({*ClientOptions.__annotations__, "encoding"}, set(Options.__dataclass_fields__))

    @given(st.text(alphabet="valkeys:/@?&=[],.%#0123456789abuf+-\u00e9 ", max_size=40))
    def test_any_text_is_options_or_a_value_error(self, text: str) -> None:
        """Any text gives options or a ValueError."""
        for url in (text, f"valkey://{text}", f"valkeys://u:p@{text}"):
            try:
                options = Options.from_url(url)
            except ValueError:
                continue
            self.assertTrue(options.seeds)
            self.assertTrue(all(host and 0 < port < 65536 for host, port in options.seeds))


class SeedTests(SynchronousTestCase):
    def test_sequences(self) -> None:
        """Seeds can be a list or a tuple of texts and pairs."""
        given_seeds: list[str | tuple[str, int]] = ["a", "b:2", ("c", 3), Address("::1", 4), "[::1]"]
        expected = (Address("a", 6379), Address("b", 2), Address("c", 3), Address("::1", 4), Address("::1", 6379))
        self.assertEqual(parse_seeds(given_seeds), expected)
        self.assertEqual(parse_seeds(tuple(given_seeds)), expected)
        self.assertEqual(parse_seeds(expected), expected)
        self.assertEqual(Options(seeds=given_seeds).seeds, expected)  # type: ignore[arg-type]

    def test_bad_pairs(self) -> None:
        """Pairs are checked like texts."""
        for pair in [("", 1), (None, 1), ("a", 0), ("a", 65536), ("a", "1"), ("a", None), ("a:b@c", 1), ("[::1]", 1)]:
            error = self.assertRaises(ValueError, parse_seeds, ["ok", pair])
            self.assertIn("seed 2: ", str(error), pair)

    def test_a_url_is_not_a_seed(self) -> None:
        """A URL or user info in place of a seed is refused, and the error does not repeat it."""
        for text in ["valkey://:{}@h:1", "valkey://{}@h", "u:{}@h:1", "{}@h:1", "h/{}"]:
            error = self.assertRaises(ValueError, parse_seeds, text.format(SECRET))
            self.assertNotIn(SECRET, str(error))


class ValidationTests(SynchronousTestCase):
    def test_wrong_values(self) -> None:
        """The error names the option."""
        nan = float("nan")
        times = ["connect_timeout", "unresponsive_after", "close_timeout", "refresh_interval", "backoff_min"]
        wrong: list[tuple[str, dict[str, Any]]] = [
            *((name, {name: value}) for name in times for value in (0, -1, -0.0, nan)),
            *((name, {name: value}) for name in ("timeout", "refresh_period") for value in (0, -1.0, nan)),
            *((name, {name: value}) for name in ("max_pending", "max_unsent_bytes") for value in (0, -1, nan)),
            *(("protocol", {"protocol": value}) for value in (0, 1, 4, "3", None)),
            *(("topology_source", {"topology_source": value}) for value in ("", "SLOTS", "slot", None)),
            ("db", {"db": -1}),
            ("backoff_max", {"backoff_min": 1.0, "backoff_max": 0.5}),
            ("backoff_max", {"backoff_max": nan}),
            ("client_name", {"protocol": 2, "client_name": "me"}),
            *(("client_name", {"client_name": name}) for name in ("a b", "a\n", "\0", "\x7f", "\u00e9", "\u3000")),
            ("username", {"username": "u"}),
            ("endpoint_for", {"tls": True, "endpoint_for": print}),
            ("trust_root", {"trust_root": "ca.pem"}),
            ("client_certificate", {"client_certificate": b"pem"}),
            ("server_name", {"server_name": "valkey.example"}),
            *(("encoding", {"encoding": name}) for name in ("utf-9", "a\0b", "none", "hex", "zip")),
            ("encoding_errors", {"encoding": "utf-8", "encoding_errors": "shrug"}),
            ("encoding_errors", {"encoding_errors": "shrug"}),
        ]
        for name, options in wrong:
            error = self.assertRaises(ValueError, Options, **options)
            self.assertIn(name, str(error), options)

    def test_wrong_types(self) -> None:
        """Bytes in place of text are refused when the options are made, not at the first connection."""
        for name in ("username", "password", "encoding", "client_name", "server_name"):
            values: dict[str, Any] = {"tls": True, "username": "u", "password": "p", name: SECRET.encode()}
            error = self.assertRaises(TypeError, Options, **values)
            self.assertIn(f"{name} is bytes", str(error))
            self.assertNotIn(SECRET, str(error))

    def test_lone_surrogates(self) -> None:
        """A lone surrogate is refused, because the handshake would fail with a traceback that shows the text."""
        for name in ("username", "password", "encoding", "client_name", "server_name"):
            values: dict[str, Any] = {"tls": True, "username": "u", "password": "p", name: SECRET + "\ud800"}
            error = self.assertRaises(ValueError, Options, **values)
            self.assertIn(f"{name} holds half of a surrogate pair", str(error))
            self.assertNotIn(SECRET, str(error))

    def test_values_at_the_limits(self) -> None:
        """Values at the limits are accepted."""
        allowed: list[dict[str, Any]] = [
            {"backoff_min": 0.5, "backoff_max": 0.5},
            {"timeout": None, "refresh_period": None},
            {"timeout": float("inf")},
            {"max_pending": 1, "max_unsent_bytes": 1},
            {"username": "u", "password": ""},
            {"password": "p"},
            {"client_name": "!~"},
            {"tls": True, "trust_root": "ca.pem", "client_certificate": b"pem", "server_name": "x"},
            {"endpoint_for": print},
            {"protocol": 2, "db": 3, "password": "p"},
            {"encoding": "idna"},
        ]
        for options in allowed:
            Options(**options)

    def test_frozen(self) -> None:
        """Options cannot be changed, and two clients do not share a source of random numbers."""
        options = Options()
        self.assertRaises(FrozenInstanceError, setattr, options, "db", 1)
        self.assertIsInstance(options.random, random.Random)
        self.assertIsNot(options.random, Options().random)


class SecretTests(SynchronousTestCase):
    def assert_secret_is_kept(self, url: str, **options: Any) -> None:
        """Check that the options, or the error and its traceback, do not show the password."""
        try:
            made = Options.from_url(url, **options)
        except (ValueError, TypeError) as error:
            failure = Failure()  # type: ignore[no-untyped-call]
            shown = [str(error), repr(error), "".join(traceback.format_exception(error)), failure.getTraceback()]
        else:
            shown = [repr(made), str(made), f"{made}"]
        for text in shown:
            # The source lines in tracebacks have names, not values.
            self.assertNotIn(SECRET, text, url)

    def test_valid_places(self) -> None:
        """A password is not shown in any place where it is allowed."""
        for user in ("", "u"):
            self.assert_secret_is_kept(f"valkeys://{user}:{SECRET}@h:1,[::1]:2/0?timeout=1")
        self.assert_secret_is_kept("valkey://h", password=SECRET)
        self.assert_secret_is_kept("valkey://u:p@h", password=SECRET)
        self.assertEqual(Options(password=SECRET).password, SECRET)
        self.assertNotIn(SECRET, repr(Options(password=SECRET)))

    def test_errors_in_other_parts(self) -> None:
        """An error in another part of the URL does not show the password."""
        for url in [
            "http://u:{}@h", "u:{}@h", ":{}@h", "valkey:u:{}@h", "valkey:/u:{}@h", "valkey//:{}@h", "valkey://u:{}@",
            "valkey://u:{}@h:0", "valkey://u:{}@h:x", "valkey://u:{}@::1", "valkey://u:{}@[::1", "valkey://u:{}@h,",
            "valkey://u:{}@h/x", "valkey://u:{}@h?x=1", "valkey://u:{}@h?timeout=x", "valkey://u:{}@h?protocol=9",
            "valkey://u:{}@h?topology_source=x", "valkey://u:{}%ff@h", "valkey://%ff:{}@h", "valkey://u:{}@h?db=-1",
            "valkey://u:{}@h h", "valkey://u:{}@h?client_name=a%20b", "valkey://u:{}@h?trust_root=x",
        ]:  # fmt: skip
            self.assertRaises(ValueError, Options.from_url, url.format(SECRET))
            self.assert_secret_is_kept(url.format(SECRET))

    def test_password_that_is_not_encoded(self) -> None:
        """A special character ends the user info early. The rest of the password is not shown by any error."""
        for before in ("", "x", "12", "12,", "[", "[::1]"):
            for mark in "/?#@:[],&=%+ \\;":
                for after in ("", "x", "=", "&", "=1", "&x=", "@"):
                    for user in ("", "u", "12"):
                        password = f"{before}{mark}{SECRET}{after}"
                        self.assert_secret_is_kept(f"valkey://{user}:{password}@h:1")

    def test_password_in_the_wrong_place(self) -> None:
        """A password in place of a path, a parameter, a host or a scheme is not shown."""
        for url in [
            "valkey://h/{}", "valkey://h?{}", "valkey://h?{}=1", "valkey://h?password={}", "valkey://h?auth={}",
            "valkey://u:p@h?password={}", "valkey://h?timeout={}", "valkey://h?protocol={}", "valkey://h?warm_up={}",
            "valkey://h?topology_source={}", "valkey://h?encoding={}", "valkey://h?encoding_errors={}", "valkey://h:{}",
            "valkey://h:{},i:1", "valkey://h:1:{}", "valkey://u:{}:h:1", "valkey://[{}", "valkey://[::1]{}", "{}",
            "{}://h", "valkey://{}@h", "valkey://u/{}@h",
        ]:  # fmt: skip
            self.assertRaises(ValueError, Options.from_url, url.format(SECRET))
            self.assert_secret_is_kept(url.format(SECRET))

    def test_wrong_keywords(self) -> None:
        """An error in another keyword does not show the password."""
        wrong: list[dict[str, Any]] = [
            {"protocol": 9},
            {"db": -1},
            {"tls": True, "endpoint_for": print},
            {"nonsense": 1},
            {"timeout": 0},
        ]
        for options in wrong:
            self.assert_secret_is_kept(f"valkey://u:{SECRET}@h", **options)
            self.assert_secret_is_kept("valkey://h", password=SECRET, **options)
        self.assert_secret_is_kept("valkey://h", pasword=SECRET)

    @given(st.text(alphabet="u:/?#@[],&=%12", max_size=8), st.text(alphabet="h:/?#@[],&=%12", max_size=8))
    def test_any_text_around_the_password(self, before: str, after: str) -> None:
        """The password is not shown, whatever text is before and after it."""
        self.assert_secret_is_kept(f"valkey://u:{before}{SECRET}{after}@h:1")
