"""A finished output in shards: files of so many records each, by a name with `{shard}` in it. Knows no form.

`out/part-{shard}.parquet` is `out/part-00000.parquet` and so on; `{shards}` is how many there are. Each is put in its
place in one step, then those of an earlier writing that have become too many are removed: whatever moment the process
is killed at, the same command with `--resume` makes them right, for they are made of the output alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixano_vlm.outputs.forms import Answers, Form

__all__ = ["existing_shards", "is_sharded", "without_places", "write_shards"]

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


def write_shards(form: Form, answers: Answers, path: Path) -> int:
    """Writes the shards.

    Args:
        form: Their form.
        answers: The answers, `answers.shard_size` of them into each.
        path: Their name, with `{shard}` in it.

    Returns:
        How many there are; one without a record where there are no answers.

    Raises:
        OSError: When one cannot be written. Those before it are in their places.
    """
    count = max(1, -(-answers.count() // answers.shard_size))
    written = []
    for number, part in enumerate(answers.parts()):
        written.append(_name(path, number, count))
        form.put(part, written[-1])
    for other in existing_shards(path):
        if other not in written:
            other.unlink()
    return count


def _name(path: Path, number: int, count: int) -> Path:
    shown = {NUMBER: f"{number:0{_DIGITS}}", COUNT: f"{count:0{_DIGITS}}"}
    return path.with_name(re.sub(r"\{shards?\}", lambda place: shown[place.group()], path.name))
