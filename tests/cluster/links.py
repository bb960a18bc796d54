"""Find bad links in Markdown files.  Nothing is fetched: external links are only checked for their form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

# A link [text](target), a definition [name]: target, a link <target>, or a bare URL.
_LINK = re.compile(
    r"""\]\(([^()\s]*)(?:\ "[^"]*")?\)
    | ^\[[^\]]+\]:\ (\S+)
    | <(\w+:[^>]*)>
    | (?<![\w(<])(https?:[^\s)>|]+)""",
    re.M | re.X,
)


def documents(root: Path) -> list[Path]:
    """Return the Markdown files at the top of a project, and all below docs/."""
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


def bad_links(document: Path, root: Path) -> list[str]:
    """Return a text for each bad link of a document: the name of the document and the target."""
    targets = [next(filter(None, found), "") for found in _LINK.findall(without_code(document.read_text()))]
    return [f"{document.name}: {target}" for target in targets if not _is_good(target, document, root)]


def without_code(text: str) -> str:
    """Return a text without blocks of code and code between backticks."""
    return re.sub(r"`[^`\n]+`", "", _without_blocks(text))


def _without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def _is_good(target: str, document: Path, root: Path) -> bool:
    if re.match(r"\w+:", target):
        parts = urlsplit(target)
        return parts.scheme in ("http", "https") and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc) is not None
    path, _, anchor = target.partition("#")
    file = (document.parent / unquote(path)).resolve() if path else document.resolve()
    if not file.is_file() or not file.is_relative_to(root.resolve()):
        return False
    return not anchor or anchor in _anchors(file.read_text())


def _anchors(text: str) -> Iterator[str]:
    """Return the anchors that GitHub makes of headings."""
    seen: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *$", _without_blocks(text), re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        count = seen[anchor] = seen.get(anchor, -1) + 1
        yield f"{anchor}-{count}" if count else anchor
