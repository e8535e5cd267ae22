"""The site made of these pages by `make docs`: Sphinx, and the few things that are generated on the way.

The pages are plain Markdown that reads as well without the site. Added here: the navigation, which is the list of
links of `index.md`, so that a page without a link there fails the build; and a page per public name, made of
its docstring. Warnings are errors (`-W`): a link that leads nowhere, a page that nothing leads to.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from pygments.lexers.data import JsonLexer
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import api_pages  # noqa: E402 - beside this file

import pixano_vlm  # noqa: E402

project = "pixano-vlm"
author = "the authors of pixano-vlm"
release = version = pixano_vlm.__version__
html_title = f"pixano-vlm {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["**/*.schema.json"]
html_theme = "furo"
html_show_copyright = False
html_show_sourcelink = False
html_extra_path = ["../llms.txt"]
highlight_language = "text"

myst_heading_anchors = 4
default_role = "code"  # docstrings are written as the pages are: `name` is code
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False


LINK = re.compile(r"\]\((\.\./[\w./-]+\.md)(?:#[\w-]*)?\)")


def downloads(name: str, text: str) -> str:
    """A page whose links to Markdown files that are no pages of the site lead to the files themselves."""

    def link(found: re.Match[str]) -> str:
        is_page = (HERE / name).parent.joinpath(found[1]).resolve().is_relative_to(HERE)
        return found[0] if is_page else f"](path:{found[1]})"

    return LINK.sub(link, text)


def toctrees(index: str) -> str:
    """The navigation that a page of links stands for: one hidden toctree per heading that has links to pages."""
    made = []
    for part in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        caption = part.splitlines()[0]
        pages = re.findall(r"\]\((?!\.\.)([\w/-]+)\.md\)", part)
        if pages:
            entries = "\n".join(f"/{page}" for page in dict.fromkeys(pages))
            made.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n")
    return "\n" + "\n".join(made)


def complete(_: Sphinx, name: str, source: list[str]) -> None:
    """What a page gets on its way to the site."""
    source[0] = downloads(name, source[0])
    if name == "index":
        source[0] += toctrees(source[0])
    elif name == "reference/python":
        source[0] = api_pages.linked(source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_lexer("jsonl", JsonLexer)
    app.connect("builder-inited", lambda _: api_pages.write(HERE / "reference" / "python"))
    app.connect("source-read", complete)
    app.connect("autodoc-process-docstring", api_pages.as_literal_blocks, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
