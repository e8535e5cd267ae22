"""Help texts: a docstring as Typer should show it, examples, and arguments and flags without their types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

__all__ = ["PlainCommand", "PlainGroup", "epilog", "help_text"]


def help_text(command: Callable[..., Any]) -> str:
    """The command's docstring, each paragraph one line for the terminal to wrap, brackets shown as such."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return escape("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))


def epilog(*examples: str) -> str:
    """Examples, one a line."""
    return escape("Examples:\n\n" + "\n\n".join(examples))


class PlainCommand(TyperCommand):
    """A command whose help names arguments and flags as people write them, without Python's types."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its arguments and options."""
        return [_plain(param) for param in super().get_params(ctx)]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Those of the line `Usage:`."""
        return [_usage(piece) for piece in super().collect_usage_pieces(ctx)]


class PlainGroup(TyperGroup):
    """The same of a group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its arguments and options."""
        return [_plain(param) for param in super().get_params(ctx)]


def _plain(param: Any) -> Any:
    if param.param_type_name == "argument":
        param.display_type_rich = lambda ctx: None
    elif getattr(param, "is_flag", False) and param.metavar is None:
        param.metavar = ""
    return param


def _usage(piece: str) -> str:
    """`MANIFEST...` of `{MANIFEST}...`, `[WORD]...` of `[[WORD]...]...`."""
    piece = re.sub(r"^\{(.*)\}", r"\1", piece)
    piece = re.sub(r"^\[(\[.*\]\.\.\.)\](\.\.\.)?$", r"\1", piece)
    return re.sub(r"(\.\.\.)+$", "...", piece)
