"""Puts one HTML file together: skeleton, style, script, data. Knows no record and no image.

What comes from users goes into the file as JSON without any `<`, or escaped; the script makes text nodes
of it. The policy in the file's head forbids every script but the one below, by its hash, and every request but for
images of the page's own origin: on disk, the originals beside it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["GENERATOR", "SCRIPTS", "render"]

GENERATOR = '<meta name="generator" content="pixano-vlm report">'
"""Near the start of every page: a file with it is a report."""

SCRIPTS = (
    "elements", "json", "words", "markdown", "records", "marks", "filters", "view", "plots", "trust", "summary",
    "menus", "toolbar", "cells", "list", "regions", "stage", "labels", "detail", "address", "page",
)  # fmt: skip
"""The script's parts, in the order in which they need each other."""


def render(title: str, data: Mapping[str, Any], thumbnails: Iterable[str]) -> Iterator[str]:
    """The page's text, in pieces.

    Args:
        title: As plain text.
        data: JSON values, as the script's parts expect them.
        thumbnails: Data URLs by number, written out last: the list is on the screen before they are read.
    """
    style, script = _style(), _script()
    policy = (
        "default-src 'none'; img-src data: 'self'; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    values = {
        "generator": GENERATOR,
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "script": script,
        "data": _json(data),
    }
    head, end = _asset("page.html").split("{{thumbnails}}")
    # One pass, so that nothing in a value is taken for a place of another.
    yield re.sub(r"{{(\w+)}}", lambda place: values[place[1]], head)
    for number, url in enumerate(thumbnails):
        yield f'<script type="text/plain" id="thumbnail-{number}">{url}</script>\n'
    yield end


@cache
def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _style() -> str:
    return _asset("page.css") + _asset("trust.css")


@cache
def _script() -> str:
    return '(() => {\n"use strict";\n' + "\n".join(_asset(f"{name}.js") for name in SCRIPTS) + "})();\n"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _json(data: Mapping[str, Any]) -> str:
    # Without `<`, the JSON can neither end the element that contains it nor begin another.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
