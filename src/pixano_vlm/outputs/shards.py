"""A finished output in shards: files of so many records each, by a name with `{shard}` in it.

Each is put in its place in one step, then those of an earlier writing that have become too many are removed: whatever
moment the process is killed at, the same command with `--resume` makes them right, for they are made of the output
alone.
"""

from __future__ import annotations

from pathlib import Path

from pixano_vlm.outputs.forms import Answers, OutputForm
from pixano_vlm.outputs.shard_names import existing_shards, shard_name

__all__ = ["write_shards"]


def write_shards(form: OutputForm, answers: Answers, path: Path) -> int:
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
        written.append(shard_name(path, number, count))
        form.put(part, written[-1])
    for other in existing_shards(path):
        if other not in written:
            other.unlink()
    return count
