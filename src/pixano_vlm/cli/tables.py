"""Tables for people on a terminal, plain columns for everyone else. Users' text is never read as markup."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

__all__ = ["draw_groups", "print_facts", "print_table"]


NARROW = 110
"""On a terminal with fewer columns, the last cell of a table of `groups` stands below its row."""


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, file: TextIO | None = None, title: str = ""
) -> None:
    """A table with a header, drawn and wrapped on a terminal; elsewhere each row is one unwrapped line."""
    file = file or sys.stdout
    if file.isatty():
        _draw(columns, [rows], file, title)
    else:
        _print_plain([columns, *rows], file)


def draw_groups(
    columns: Sequence[str], groups: Sequence[Sequence[Sequence[str]]], *, file: TextIO | None = None
) -> None:
    """A table whose rows are in groups, for a terminal; on a narrow one, long last cells are below their rows."""
    from rich.console import Console

    file = file or sys.stdout
    if Console(file=file).width >= NARROW:
        _draw(columns, groups, file, "")
    else:
        _draw_stacked(columns, groups, file)


def print_facts(facts: Mapping[str, object], *, file: TextIO | None = None, title: str = "") -> None:
    """A table of two columns without a header: what, and how much."""
    file = file or sys.stdout
    rows = [(name, readable(value)) for name, value in facts.items()]
    if file.isatty():
        _draw((), [rows], file, title)
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


def _draw(
    columns: Sequence[str], groups: Sequence[Sequence[Sequence[str]]], file: TextIO, title: str
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_header=bool(columns), title=Text(title) if title else None)
    for column in columns or ("", ""):
        table.add_column(Text(column), overflow="fold", no_wrap=not table.columns)  # names are copied
    for group in groups:
        for row in group:
            table.add_row(*(Text(cell) for cell in row))
        table.add_section()
    Console(file=file).print(table)


def _draw_stacked(columns: Sequence[str], groups: Sequence[Sequence[Sequence[str]]], file: TextIO) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(file=file)
    every = [columns, *(row for group in groups for row in group)]
    widths = [max(len(row[place]) for row in every) for place in range(len(columns) - 1)]

    def line(row: Sequence[str], style: str) -> Text:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        return Text.assemble((cells[0], style), "  ", "  ".join(cells[1:]).rstrip())

    console.print(line(columns, "bold"), soft_wrap=True)
    for group in groups:
        console.print()
        for row in group:
            console.print(line(row, "bold"), soft_wrap=True)
            console.print(Padding(Text(row[-1], style="dim"), (0, 0, 0, 4)))


def _print_plain(rows: Sequence[Sequence[str]], file: TextIO) -> None:
    lines = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        file.write(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        )
