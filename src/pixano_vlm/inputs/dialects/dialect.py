"""What a dialect of manifest lines is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pixano_vlm.errors import RecordError

__all__ = ["Dialect", "Values"]

Values = dict[str, Any]


class Dialect(NamedTuple):
    """A form of line that another tool reads or writes."""

    name: str
    """What it is called, for messages and the documentation."""
    keys: frozenset[str]
    """Lines of it have at least one of these keys. Columns of these names are the line's own, not metadata."""
    is_it: Callable[[Values], bool]
    to_record: Callable[[Values], Values]
    """The record under the tool's own keys; raises `RecordError` for what cannot be done."""
    id_key: str = "id"
    refusal: tuple[str, str] | None = None
    """Why such lines are never records, and the conversion: a manifest whose first line is one is refused whole."""

    def refuse(self, values: Values) -> Values:
        """As `to_record`, of a dialect that has a refusal."""
        assert self.refusal is not None
        message, hint = self.refusal
        raise RecordError(message, hint=hint)
