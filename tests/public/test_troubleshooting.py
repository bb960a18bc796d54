"""docs/troubleshooting.md has every error text of the package, and no other.

The tests read the source.  A text is the first argument of an exception, of ``fail_unanswered``, or of a line in the
log with the level warn or above.  Its variable parts are shown as ``…``.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.cases import SynchronousTestCase
from txvalkeycluster.proxy.commands.dispatch import REFUSED

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "txvalkeycluster"
PAGE = ROOT / "docs/troubleshooting.md"

#: Errors that no user of the library sees, each with the reason.
INTERNAL = {
    "a step or a number in a server's description of a command; becomes `… is not valid: …`": {
        "the step between keys is …, but must be at least 1",
        "… where a number is expected",
        "… where text is expected",
    },
    "a row of a reply; becomes `the reply does not have the form of this command's replies`": {
        "… where a tuple is expected",
    },
    "programming errors inside the package": {
        "an error",
        "it is no object",
        "… is no reply",
        "StopIteration: …",
    },
}
#: Exceptions whose texts are replies to the clients of the proxy, in the words of Valkey.
REPLIES_OF_THE_PROXY = {"FilterError", "UnbalancedQuotes", "UnknownCursor"}
#: Texts without a word of their own, by class, and the texts that can be there: those of the package in words, others
#: (of the system, of the server) with an empty list.
COMPUTED: dict[str, list[str]] = {
    "AuthenticationFailed": [],
    "ClientClosed": [
        "the client is closed",
        "the connections of this client belong to the parent process; make a new client",
        "the reactor of the client has stopped",
        "this object belongs to the parent process; make a new one in the child",
    ],
    "CommandTimeout": [
        "; earlier attempts: …, last error: …",
        "…: … replies pending…; … commands unsent",
        "waiting for … (…, … commands queued…)",
        "waiting for one of … exclusive connections to …",
        "waiting for a subscriber of …",
        "to become reachable",
        "to serve the slot",
        "to finish loading",
        "to finish moving the keys of the slot",
        "to report that the cluster is up",
        "to reach its primary",
        "to be replaced by a primary",
        "to stop redirecting",
    ],
    "ConnectFailed": [
        "a forked child process cannot use the client of its parent; create a new client",
        " (check that this port uses TLS)",
        " (if this port requires TLS, use valkeys:// or tls=True)",
    ],
    "ConnectionLost": [],
    "OSError": ["cannot listen on …: …"],
    "PortTaken": ["port … of … is taken by …"],
    "ProtocolError": [],
    "RawReplyError": [],
    "ReplyError": [],
    "StopIteration": [],
    "SystemExit": ["Error: the command line needs the extra 'cli': pip install 'txvalkeycluster[cli]' (…)"],
    "SettingsError": ["systemd has passed no such socket to this process"],
    "TooManyPending": [
        "… commands pending; the limit is … (max_pending)",
        "… bytes unsent; the limit is … (max_unsent_bytes)",
    ],
    "TopologyError": [],
    "TransactionAborted": [],
    "TransactionRefused": ["MULTI was refused: …", "the server did not queue the commands after MULTI"],
    "UsageError": [],
    "ValueError": [],
    "a line in the log": ["/metrics needs the package prometheus_client: pip install 'txvalkeycluster[prometheus]'"],
}


def cleaned(text: str) -> str:
    """Return a text as the page shows it: in one line, and with one ``…`` for variable parts that touch."""
    return re.sub("…+", "…", re.sub(r"\s+", " ", text))


def texts_of(node: ast.expr | None) -> list[str]:
    """Return the texts that an expression can have, with ``…`` for what is not written there."""
    match node:
        case ast.Constant(value=str(text)):
            return [cleaned(text)]
        case ast.JoinedStr(values=parts):
            return [cleaned("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts))]
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return [cleaned(one + other) for one in texts_of(left) for other in texts_of(right)]
        case ast.IfExp(body=one, orelse=other):
            return texts_of(one) + texts_of(other)
    return ["…"]


@cache
def modules() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))]


def nodes() -> Iterator[ast.AST]:
    return (node for module in modules() for node in ast.walk(module))


@cache
def exceptions() -> set[str]:
    """Return the names of all classes of exceptions: those of Python, of the package, and of its command lines."""
    names = {name for name, made in vars(builtins).items() if isinstance(made, type) and issubclass(made, Exception)}
    names |= {"ClickException", "UsageError"}
    classes = [node for node in nodes() if isinstance(node, ast.ClassDef)]
    while True:
        found = {each.name for each in classes if any(last_name(base) in names for base in each.bases)} - names
        if not found:
            return names
        names |= found


def last_name(node: ast.expr) -> str:
    """Return the last part of a name with dots; nothing for other expressions."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


class Reader(ast.NodeVisitor):
    """Collects the texts of errors, by the class of the error."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = defaultdict(set)
        self._exceptions = exceptions()
        self._functions: list[ast.AST] = []
        for module in modules():
            self.visit(module)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.AST) -> None:
        self._functions.append(node)
        self.generic_visit(node)
        self._functions.pop()

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        name, args = last_name(node.func), node.args
        if name == "fail_unanswered" and len(args) > 1:
            self._add(last_name(args[0]), args[1])
        elif name == "_write" and last_name(args[0]) in ("warn", "error"):
            self._add("a line in the log", args[2])
        elif name in ("warn", "error", "failure", "critical") and "log" in ast.unparse(node.func):
            self._add("a line in the log", args[0])
        elif name == "SettingsError":
            self._add(name, args[1])
        elif name in self._exceptions and args and not name.startswith("_") and name not in REPLIES_OF_THE_PROXY:
            self._add(name, args[0])

    def _add(self, name: str, text: ast.expr) -> None:
        found = self._assigned(text.id) if isinstance(text, ast.Name) else []
        for each in found or texts_of(text):
            if name == "a line in the log":
                each = cleaned(re.sub(r"\{[^}]*\}", "…", each))
            self.found[name].add(each)

    def _assigned(self, name: str) -> list[str]:
        """Return the texts that a variable of the function can have."""
        return [
            text
            for function in self._functions
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]
            for text in texts_of(node.value)
        ]


def has_words(text: str) -> bool:
    return re.search("[A-Za-z]{2}", text) is not None


def entries(page: str) -> list[str]:
    """Return the texts in the first column of tables."""
    rows = re.findall(r"^\| (`.*?`) \| ", page, re.M)
    return [cleaned(text) for row in rows for text in re.findall("`([^`]+)`", row)]


def replies_of_the_proxy() -> set[str]:
    """Return the errors that the proxy replies by itself, without the names of the commands that it refuses."""
    found = {f"ERR {text.replace(name, '…', 1)}" for name, text in REFUSED.items()}
    for path in sorted((PACKAGE / "proxy").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                found.add(node.value.decode("latin-1").removeprefix("-").rstrip("\r\n"))
            elif isinstance(node, ast.Call):
                found.update(text for argument in node.args for text in texts_of(argument))
            elif isinstance(node, ast.Assign | ast.Return):
                found.update(texts_of(node.value))
    return {text for text in found if _REPLY.match(text) and has_words(text.partition(" ")[2])}


_REPLY = re.compile("(ERR|EXECABORT|CROSSSLOT|NOAUTH|NOPROTO|WRONGPASS|UNBLOCKED) ")


class TroubleshootingTests(SynchronousTestCase):
    def test_every_text_is_on_the_page(self) -> None:
        """Each error text of the package is on the page, and the page has no text that no error has."""
        found = Reader().found
        internal = set().union(*INTERNAL.values())
        texts = {text for each in found.values() for text in each if has_words(text)}
        self.assertGreater(len(texts), 250)
        self.assertEqual(internal - texts, set(), "these are not raised any more; remove them from INTERNAL")
        wanted = (texts - internal) | {text for each in COMPUTED.values() for text in each}
        there = entries(PAGE.read_text().partition("\n## Replies of the proxy")[0])
        self.assertEqual(sorted(wanted - set(there)), [], "docs/troubleshooting.md lacks these")
        self.assertEqual(sorted(set(there) - wanted), [], "docs/troubleshooting.md has these, and no error does")
        self.assertEqual(sorted({text for text in there if there.count(text) > 1}), [], "these are there twice")

    def test_every_reply_of_the_proxy(self) -> None:
        """Each error that the proxy replies by itself is in the section about them, and no other."""
        section = PAGE.read_text().partition("\n## Replies of the proxy")[2].partition("\n## ")[0]
        there = {text for text in entries(section) if _REPLY.match(text) and text != "NOAUTH …"}
        self.assertEqual(sorted(replies_of_the_proxy() - there), [], "docs/troubleshooting.md lacks these")
        self.assertEqual(sorted(there - replies_of_the_proxy()), [], "docs/troubleshooting.md has these too much")

    def test_what_is_computed_exists(self) -> None:
        """The texts that the test cannot derive are in the source, and each class with such texts is known."""
        found = Reader().found
        bare = {name for name, texts in found.items() if not all(map(has_words, texts)) and name in exceptions()}
        self.assertEqual(bare - set(COMPUTED), set())
        written = {text for node in nodes() if isinstance(node, ast.expr) for text in texts_of(node)}
        missing = [text for texts in COMPUTED.values() for text in texts if text not in written]
        self.assertEqual(missing, [])
