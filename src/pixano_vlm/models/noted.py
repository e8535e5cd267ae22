"""Parameters that note which of them a model class looks at, so that one it ignores can be named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["NotedParameters"]


class NotedParameters(dict[str, Any]):
    """`model_params` with a memory: `read` has the names that were looked up. Looking through all of them counts."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping."""
        self.read.add(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        """As of any mapping."""
        self.read.add(name)
        return super().pop(name, *default)

    # `**params`, `dict(params)` and the like go through one of these.

    def __iter__(self) -> Iterator[str]:
        self.read.update(dict.keys(self))
        return super().__iter__()

    def keys(self) -> Any:
        """As of any mapping."""
        self.read.update(dict.keys(self))
        return super().keys()

    def values(self) -> Any:
        """As of any mapping."""
        self.read.update(dict.keys(self))
        return super().values()

    def items(self) -> Any:
        """As of any mapping."""
        self.read.update(dict.keys(self))
        return super().items()

    def __reduce__(self) -> tuple[Any, ...]:
        return NotedParameters, (dict(dict.items(self)),)
