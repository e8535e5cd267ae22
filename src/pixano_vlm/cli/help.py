"""Help texts: a docstring as Typer should show it, and the examples below it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rich.markup import escape

__all__ = ["epilog", "help_text"]


def help_text(command: Callable[..., Any]) -> str:
    """The command's docstring, each paragraph one line for the terminal to wrap, brackets shown as such."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return escape("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))


def epilog(*examples: str) -> str:
    """Examples, one a line."""
    return escape("Examples:\n\n" + "\n\n".join(examples))
