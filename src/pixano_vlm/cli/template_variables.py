"""`--template KEY=VALUE`: variables of a model's chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pixano_vlm.errors import UsageError

__all__ = ["read_variables"]


def read_variables(given: Sequence[str]) -> dict[str, Any]:
    """The variables, each value as JSON where it is any, else as text.

    Raises:
        UsageError: When one is not of the form KEY=VALUE, or is given twice.
    """
    found: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not (equals and name.strip().isidentifier()):
            raise UsageError(
                f"--template {item!r} is not of the form KEY=VALUE.", hint="As in enable_thinking=false."
            )
        if name.strip() in found:
            raise UsageError(f"--template gives {name.strip()!r} twice.", hint="Keep one.")
        found[name.strip()] = _value(value)
    return found


def _value(text: str) -> Any:
    plain = text.strip()
    if plain in ("True", "False"):  # as Python and Jinja write them
        return plain == "True"
    try:
        return json.loads(plain)
    except ValueError:
        return text
