"""A page per public name, in the form that Sphinx reads: its docstring by autodoc, and a table of its fields."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import pixano_vlm
from pixano_vlm import errors

ERRORS = "errors"
"""The page of all errors; they are a tree, and are read together."""

ROW = re.compile(r"^\| \[`(\w+)`\]\([^)]*\)", re.MULTILINE)


def names() -> list[str]:
    """The public names that have a page of their own."""
    return [name for name in pixano_vlm.__all__ if name not in errors.__all__ and not name.startswith("__")]


def write(folder: Path) -> None:
    """Writes the pages, and removes those of names that are gone."""
    folder.mkdir(exist_ok=True)
    pages = {f"{name}.rst": page(name) for name in names()} | {f"{ERRORS}.rst": error_page()}
    for file in folder.glob("*.rst"):
        if file.name not in pages:
            file.unlink()
    for name, text in pages.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:  # Sphinx reads again what is newer
            file.write_text(text, encoding="utf-8")


def page(name: str) -> str:
    """The page of one name."""
    value = getattr(pixano_vlm, name)
    kind = "autoclass" if inspect.isclass(value) else "autofunction"
    lines = [name, "=" * len(name), "", f".. {kind}:: pixano_vlm.{name}"]
    if inspect.isclass(value):
        lines += ["   :members:", "   :show-inheritance:"]
        if issubclass(value, BaseModel):
            lines += ["   :no-show-inheritance:", "   :exclude-members: model_config", "", *fields(value)]
    return "\n".join(lines) + "\n"


def error_page() -> str:
    """The page of the errors."""
    lines = [
        "Errors",
        "======",
        "",
        ".. automodule:: pixano_vlm.errors",
        "   :members:",
        "   :show-inheritance:",
    ]
    return "\n".join(lines) + "\n"


def fields(model: type[BaseModel]) -> list[str]:
    """The fields of a pydantic model, as a table."""
    lines = [
        ".. list-table:: Fields", "   :header-rows: 1", "   :widths: 22 26 14 38", "",
        "   * - name", "     - type", "     - default", "     - meaning",
    ]  # fmt: skip
    for name, field in model.model_fields.items():
        default = (
            "required" if field.is_required() else f"``{field.get_default(call_default_factory=True)!r}``"
        )
        lines += [
            f"   * - ``{name}``",
            f"     - ``{typed(field)}``",
            f"     - {default}",
            f"     - {field.description or ''}",
        ]
    return lines


def typed(field: FieldInfo) -> str:
    """A field's type with its bounds: `int, ge=1`."""
    annotation = field.annotation
    text = (
        annotation.__name__
        if isinstance(annotation, type) and "[" not in str(annotation)
        else str(annotation)
    )
    bounds = [
        f"{key}={getattr(part, key)}"
        for part in field.metadata
        for key in ("ge", "gt", "le", "lt")
        if hasattr(part, key)
    ]
    return ", ".join([re.sub(r"\b(?:typing|pathlib|pixano_vlm(?:\.\w+)*)\.", "", text), *bounds])


def linked(text: str) -> str:
    """The page that lists the names, with links to the pages made of them instead of to the source."""
    shown = ROW.findall(text)
    text = ROW.sub(lambda row: f"| [`{row[1]}`](python/{row[1] if row[1] in names() else ERRORS}.rst)", text)
    entries = "\n".join(f"python/{name}" for name in [*(name for name in shown if name in names()), ERRORS])
    return f"{text}\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"


def as_literal_blocks(
    _app: Any, _what: str, _name: str, _value: Any, _options: Any, lines: list[str]
) -> None:
    """Indented examples and drawings in docstrings, which are Markdown's code blocks, as reStructuredText's."""
    done: list[str] = []
    inside = False
    for line in lines:
        starts = bool(re.match(r" {4}", line)) and (not done or not done[-1].strip())
        if starts and not inside and done:
            done += ["::", ""]
            inside = True
        elif line.strip() and not line.startswith(" "):
            inside = line.endswith(":")  # a section of arguments: its lines are no example
        done.append(line)
    lines[:] = done
