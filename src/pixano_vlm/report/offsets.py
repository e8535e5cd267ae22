"""Where the records of a file begin, by id, so that one can be read again without keeping any of them."""

from __future__ import annotations

__all__ = ["Offsets"]


class Offsets:
    """Byte offsets by id. An id may be in a file twice (the second is an error record): both are kept."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._later: dict[str, list[int]] = {}

    def add(self, id: str, offset: int) -> int:
        """Notes the next record, and returns how many of the same id came before it."""
        if id not in self._first:
            self._first[id] = offset
            return 0
        later = self._later.setdefault(id, [])
        later.append(offset)
        return len(later)

    def find(self, id: str, occurrence: int = 0) -> int | None:
        """Where the record begins; `None` where there is none.

        Args:
            id: As the file has it.
            occurrence: How many of the same id come before it.
        """
        if occurrence == 0:
            return self._first.get(id)
        later = self._later.get(id, [])
        return later[occurrence - 1] if occurrence <= len(later) else None
