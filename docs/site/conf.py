"""Builds the site of the documents: ``tox -e docs``.

The pages stay where they are, so that their links work in the repository too.  `docs/index.md` lists all of them; the
navigation of the site is made from its headings and links.  The pages in `docs/api` are made from docstrings.
"""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
_SETUP = ConfigParser(interpolation=None)
_SETUP.read(ROOT / "setup.cfg")

project = "txvalkeycluster"
author = "the authors of txvalkeycluster"
release = version = _SETUP["metadata"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/**", "examples/README.md", "*.md"]
exclude_patterns = [
    "[._]*",
    "build",
    "dist",
    "tests",
    "txvalkeycluster",
    "benchmarks",
    "gencmd",
    "certs",
    "**/_trial_*",
]

# Links to headings are those that GitHub makes; a link to a heading that does not exist is an error.
myst_heading_anchors = 4
myst_links_external_new_tab = False
# A block without a language is not Python.
highlight_language = "none"

# `name` in a docstring is a link if there is such a name, and code in any case.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Names that say more than what they stand for.
autodoc_type_aliases = {
    name: name for name in ("AnyKey", "AnyValue", "Arg", "ClientOptions", "IReactorTime", "Key", "Listener", "Value")
}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"txvalkeycluster {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_theme_options = {"sidebar_hide_name": False}

# `tox -e docs -- -b linkcheck` looks at the links to other sites, too.
linkcheck_timeout = 10
linkcheck_retries = 2
linkcheck_anchors = False


def navigation(text: str) -> str:
    """Return the toctrees for an index: one for each heading, with the pages that it links to."""
    trees = []
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        heading, _, body = section.partition("\n")
        pages = re.findall(r"^- \[(.*?)\]\(([^)#]+)\)", body, re.M)
        lines = [f"{title} <{page.removesuffix('.md').removesuffix('.rst')}>" for title, page in pages]
        trees.append("\n".join(["```{toctree}", ":hidden:", f":caption: {heading}", "", *lines, "```", ""]))
    return "\n".join(trees)


def add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    """Add the toctrees to the index.  They are not in the file, because GitHub shows them as code."""
    if name == root_doc:
        source[0] += "\n" + navigation(source[0])


def show_examples(app: Sphinx, kind: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Show the code below ``Example:`` in a docstring as code."""
    if "Example:" in lines:
        where = lines.index("Example:")
        lines[where : where + 1] = [".. rubric:: Example", "", ".. code-block:: python", ""]


def plain_signature(
    app: Sphinx, kind: str, name: str, value: object, options: object, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Show the name of a type that Sphinx shows as a reference, as in ``TypeAliasForwardRef('Value') | None``."""
    return tuple(each and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", each) for each in (signature, result))


def start_here(app: Sphinx, failure: Exception | None) -> None:
    """Write a page that leads from the folder of the site to its index."""
    target = app.builder.get_target_uri(root_doc) if app.builder.format == "html" else ""
    if failure is None and target:
        (Path(app.outdir) / "index.html").write_text(
            f'<!doctype html><title>{project}</title><meta http-equiv="refresh" content="0; url={target}">'
            f'<a href="{target}">{project}</a>\n'
        )


def setup(app: Sphinx) -> None:
    """Connect the functions of this file."""
    app.connect("source-read", add_navigation)
    # Before napoleon, which has the priority 500.
    app.connect("autodoc-process-docstring", show_examples, priority=400)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("build-finished", start_here)
