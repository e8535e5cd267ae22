"""Tables for people on a terminal, plain columns for everyone else. Users' text is never read as markup."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

__all__ = ["print_facts", "print_table"]


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, file: TextIO | None = None, title: str = ""
) -> None:
    """A table with a header, drawn and wrapped on a terminal; elsewhere each row is one unwrapped line."""
    file = file or sys.stdout
    if file.isatty():
        _draw(columns, rows, file, title)
    else:
        _print_plain([columns, *rows], file)


def print_facts(facts: Mapping[str, object], *, file: TextIO | None = None, title: str = "") -> None:
    """A table of two columns without a header: what, and how much."""
    file = file or sys.stdout
    rows = [(name, readable(value)) for name, value in facts.items()]
    if file.isatty():
        _draw((), rows, file, title)
    else:
        _print_plain(rows, file)


def readable(value: object) -> str:
    """A value as people read it: 1,234 and 0.59; yes and no; a dash for what is not known."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO, title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_header=bool(columns), title=Text(title) if title else None)
    for column in columns or ("", ""):
        table.add_column(Text(column), overflow="fold", no_wrap=not table.columns)  # names are copied
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=file).print(table)


def _print_plain(rows: Sequence[Sequence[str]], file: TextIO) -> None:
    lines = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        file.write(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        )
