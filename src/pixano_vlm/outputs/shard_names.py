"""Names with `{shard}` in them: which files they stand for. Knows no form.

`out/part-{shard}.parquet` is `out/part-00000.parquet` and so on; `{shards}` is how many there are.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["existing_shards", "is_sharded", "shard_name", "without_places"]

NUMBER, COUNT = "{shard}", "{shards}"
"""What in a name is the number of a shard, from 0, and how many there are."""
_DIGITS = 5


def is_sharded(path: Path) -> bool:
    """Whether the name asks for shards."""
    return NUMBER in path.name


def without_places(name: str) -> str:
    """A name without the places of numbers, and without what joins them to the rest: `part-{shard}` is `part`."""
    plain = re.sub(
        rf"[-_. ]*{re.escape(NUMBER)}", "", re.sub(rf"[-_. ]*(of[-_. ]*)?{re.escape(COUNT)}", "", name)
    )
    return plain.strip("-_. ") or "answers"


def existing_shards(path: Path) -> list[Path]:
    """The files that are there under such a name."""
    pattern = re.escape(path.name).replace(re.escape(NUMBER), r"\d{5,}").replace(re.escape(COUNT), r"\d{5,}")
    if not path.parent.is_dir():
        return []
    return sorted(other for other in path.parent.iterdir() if re.fullmatch(pattern, other.name))


def shard_name(path: Path, number: int, count: int) -> Path:
    """The name of one of `count` shards, by its number from 0."""
    shown = {NUMBER: f"{number:0{_DIGITS}}", COUNT: f"{count:0{_DIGITS}}"}
    return path.with_name(re.sub(r"\{shards?\}", lambda place: shown[place.group()], path.name))
