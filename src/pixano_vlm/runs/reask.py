"""Asks a sample of the answered records again, and compares: whether the model still says what the output says.

An exact engine gives a greedy record the same tokens, and a sampled one the same text, since its seed is its own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from zlib import crc32

from pixano_vlm.errors import VLMError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.models.samples import answers_of
from pixano_vlm.models.vlm import VLMInput, VLMModel
from pixano_vlm.outputs.disk import DISK, Disk, FileReader
from pixano_vlm.outputs.journal import OK, STALE, Journal
from pixano_vlm.records.request import Request
from pixano_vlm.runs.check import Finding, lock_journal

__all__ = ["Reasked", "reask"]


@dataclass(slots=True)
class Reasked:
    """How many records were asked again, and how that ended."""

    asked: int = 0
    equal: int = 0
    skipped: int = 0
    """Records that changed since, or whose line is damaged."""


def reask(
    path: Path,
    manifest: Manifest,
    model: VLMModel,
    share: float,
    reasked: Reasked,
    *,
    seed: int = 0,
    disk: Disk = DISK,
) -> Iterator[Finding]:
    """Asks a random share of the answered records again.

    Args:
        path: The output.
        manifest: Its records.
        model: Loaded.
        share: Of the answers, 0 to 1.
        reasked: Counts go here.
        seed: Which sample is drawn.
        disk: The file system.

    Yields:
        A finding for each record that is answered otherwise now.
    """
    fd, lock = disk.open(path), lock_journal(disk, path)
    try:
        journal = Journal.open(disk, lock)
        if journal is None:
            return
        sample = _Sample(manifest, journal, FileReader(disk, fd), share, random.Random(seed), reasked)
        for key, answer in answers_of(model, sample.inputs()):
            request, line = sample.waiting.pop(key)
            reasked.asked += 1
            if isinstance(answer, VLMError):
                text = f"it fails now: {answer.message}"
            elif answer.generated_text != line["generated_text"]:
                text = "it is answered otherwise now"
            else:
                reasked.equal += 1
                continue
            yield Finding("stale", path.name, request.where, request.id, text)
    finally:
        disk.close(lock)
        disk.close(fd)


class _Sample:
    def __init__(
        self, manifest: Manifest, journal: Journal, reader: FileReader, share: float, chance: random.Random,
        reasked: Reasked,
    ) -> None:  # fmt: skip
        self.manifest, self.journal, self.reader = manifest, journal, reader
        self.share, self.chance, self.reasked = share, chance, reasked
        self.waiting: dict[int, tuple[Request, dict[str, object]]] = {}

    def inputs(self) -> Iterator[tuple[int, VLMInput]]:
        keys = count()
        for line, slot in zip(self.manifest.lines(), self.journal.slots(), strict=False):
            if slot is None or slot.flags & (OK | STALE) != OK or self.chance.random() >= self.share:
                continue
            request = self.manifest.parse(line, register=False)
            data = self.reader.read(slot.offset, slot.length)
            if request.input is None or slot.raw_hash != line.raw_hash or crc32(data) != slot.line_crc:
                self.reasked.skipped += 1
                continue
            key = next(keys)
            self.waiting[key] = (request, json.loads(data))
            yield key, request.input
