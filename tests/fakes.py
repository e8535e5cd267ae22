"""Stand-ins at the seams: a model that answers at once, and a disk that can lose its power."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from pixano_vlm.errors import VLMError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.media.images import load_image
from pixano_vlm.models import (
    GenerationSettings,
    Limits,
    ModelDeploymentConfig,
    UsageInfo,
    VLMInput,
    VLMModel,
    VLMOutput,
)
from pixano_vlm.outputs.disk import DISK, Disk
from pixano_vlm.runs.job import Job
from pixano_vlm.runs.open import OpenOptions, open_output
from pixano_vlm.runs.summary import Summary


class FakeModel(VLMModel):
    """Answers at once with a text that depends on all that an answer may depend on, and notes what it was asked.

    Args:
        window: Requests taken before any is answered.
        shuffle: Seed of the order in which a window is answered; None answers in order.
        script: Prompt -> an exception to answer with (`VLMError`) or to raise (any other).
        on_answer: Called before each answer.
    """

    def __init__(
        self,
        *,
        window: int = 1,
        shuffle: int | None = None,
        script: dict[str, Exception] | None = None,
        on_answer: Callable[[VLMInput], None] | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(ModelDeploymentConfig(name="fake", model_class="FakeModel"))
        self.window, self.shuffle, self.script = window, shuffle, script or {}
        self.on_answer = on_answer
        self.asked: list[str] = []
        self.loads = 0
        self.limits = limits or Limits()

    def load_model(self) -> None:
        self.loads += 1

    def predict(self, input: VLMInput) -> VLMOutput:
        prompt = input.prompt if isinstance(input.prompt, str) else json.dumps(input.prompt)
        self.asked.append(prompt)
        if self.on_answer is not None:
            self.on_answer(input)
        if prompt in self.script:
            raise self.script[prompt]
        digests = [load_image(source, self.limits).digest.hex() for source in input.images or ()]
        settings = input.model_dump(exclude={"prompt", "images"}, exclude_none=True)
        asked = json.dumps([prompt, digests, settings])
        words = len(prompt.split())
        return VLMOutput(
            generated_text=blake2b(asked.encode(), digest_size=8).hexdigest(),
            usage=UsageInfo(prompt_tokens=words, completion_tokens=2, total_tokens=words + 2),
            generation_config=settings,
            finish_reason="stop",
        )

    def stream(self, inputs: Iterable[tuple[Any, VLMInput]]) -> Iterator[tuple[Any, VLMOutput | VLMError]]:
        inputs = iter(inputs)
        order = random.Random(self.shuffle)
        while batch := list(islice(inputs, self.window)):
            if self.shuffle is not None:
                order.shuffle(batch)
            for key, input in batch:
                yield key, self._answer_or_raise(input)

    def _answer_or_raise(self, input: VLMInput) -> VLMOutput | VLMError:
        try:
            return self.predict(input)
        except VLMError as error:
            return error


def run(
    manifest: Path,
    output: Path,
    model: VLMModel | None = None,
    *,
    disk: Disk = DISK,
    settings: GenerationSettings | None = None,
    limits: Limits | None = None,
    fingerprint: str = "fake-1",
    run_seed: int = 0,
    stop: Any = None,
    on_result: Any = None,
    rows: Any = None,
    naming: Any = None,
    retry_flagged: bool = False,
    least_confidence: float | None = None,
    **options: Any,
) -> Summary:
    """One whole run, as the command line does it."""
    model = model or FakeModel(limits=limits)

    def load() -> VLMModel:
        model.load_model()
        return model

    records = Manifest(
        manifest, rows=rows, settings=settings, limits=limits, run_seed=run_seed, naming=naming
    )
    opening = OpenOptions(retry_flagged=retry_flagged, **options)
    with open_output(
        output, records, model="fake", fingerprint=fingerprint, options=opening, disk=disk
    ) as opened:
        job = Job(
            opened.remaining, load, opened.sink, stop=stop, retry_flagged=retry_flagged,
            least_confidence=least_confidence,
        )  # fmt: skip
        summary = job.run(on_result)
        if not summary.interrupted:
            opened.settle()
        return summary


class PowerCut(BaseException):
    """The moment the power goes, or the process is killed: nothing may catch it."""


@dataclass
class File:
    now: bytearray = field(default_factory=bytearray)
    """What a reader sees."""
    durable: bytearray = field(default_factory=bytearray)
    """What was there at the last fsync."""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Writes since, as (offset, bytes); cuts as (size, None)."""


def _apply(data: bytearray, offset: int, piece: bytes | None) -> None:
    if piece is None:
        del data[offset:]
        data.extend(bytes(offset - len(data)))
        return
    data.extend(bytes(max(0, offset - len(data))))
    data[offset : offset + len(piece)] = piece


class FakeDisk(Disk):
    """Files in memory. After `power_cut`, of what was not fsynced any part may be there, torn anywhere.

    Args:
        cut_at: The operation at which the power goes: it happens in part, and raises `PowerCut`.
        room: Bytes that fit; writing more raises ENOSPC.
    """

    def __init__(self, *, cut_at: int | None = None, room: int | None = None, seed: int = 0) -> None:
        self.names: dict[Path, File] = {}
        self.durable_names: dict[Path, File] = {}
        self.name_changes: list[Callable[[dict[Path, File]], None]] = []
        self.fds: dict[int, File] = {}
        self.locks: dict[int, File] = {}
        self.next_fd = 3
        self.operations = 0
        self.cut_at, self.room = cut_at, room
        self.random = random.Random(seed)

    # what a test does to it

    def power_cut(self) -> None:
        """The machine starts again with what reached the disk."""
        survivors = {}
        for change in self.name_changes[: self.random.randint(0, len(self.name_changes))]:
            change(self.durable_names)
        for path, file in self.durable_names.items():
            for offset, piece in file.pending:
                fate = self.random.random()
                if fate < 0.4:
                    continue
                torn = piece is not None and fate < 0.6
                _apply(file.durable, offset, piece[: self.random.randint(0, len(piece))] if torn else piece)
            survivors[path] = File(bytearray(file.durable), bytearray(file.durable))
        self._restart(survivors)

    def kill(self) -> None:
        """The process is gone; the machine runs on, so every finished write is there."""
        self._restart(self.names)

    def _restart(self, names: dict[Path, File]) -> None:
        self.names = dict(names)
        self.durable_names = dict(names)
        self.name_changes = []
        self.fds, self.locks = {}, {}
        self.cut_at = None

    def text(self, path: Path) -> bytes:
        return bytes(self.names[path].now)

    def _step(self) -> bool:
        """Counts an operation; True when it is the one that is cut."""
        if self.cut_at is not None and self.operations > self.cut_at:
            raise PowerCut
        self.operations += 1
        return self.cut_at is not None and self.operations > self.cut_at

    def _name(self, change: Callable[[dict[Path, File]], None]) -> None:
        change(self.names)
        self.name_changes.append(change)

    # what the code does with it

    def open(self, path: Path, *, create: bool = False, truncate: bool = False) -> int:
        if self._step():
            raise PowerCut
        if path not in self.names:
            if not create:
                raise FileNotFoundError(path)
            file = File()
            self._name(lambda names: names.__setitem__(path, file))
        file = self.names[path]
        if truncate:
            file.now.clear()
            file.pending.append((0, None))
        self.next_fd += 1
        self.fds[self.next_fd] = file
        return self.next_fd

    def close(self, fd: int) -> None:
        self.fds.pop(fd, None)
        self.locks.pop(fd, None)

    def read(self, fd: int, length: int, offset: int) -> bytes:
        return bytes(self.fds[fd].now[offset : offset + length])

    def write_some(self, fd: int, data: bytes, offset: int) -> int:
        file = self.fds[fd]
        if cut := self._step():
            data = data[: self.random.randint(0, len(data))]
        if self.room is not None:
            used = sum(len(other.now) for other in self.names.values())
            grown = max(0, offset + len(data) - len(file.now))
            if used + grown > self.room:
                _apply(file.now, offset, data[: max(0, self.room - used)])
                raise OSError(28, "No space left on device")
        _apply(file.now, offset, data)
        file.pending.append((offset, data))
        if cut:
            raise PowerCut
        return len(data)

    def truncate(self, fd: int, size: int) -> None:
        if self._step():
            raise PowerCut
        _apply(self.fds[fd].now, size, None)
        self.fds[fd].pending.append((size, None))

    def size(self, fd: int) -> int:
        return len(self.fds[fd].now)

    def sync(self, fd: int) -> None:
        file = self.fds[fd]
        if self._step():
            raise PowerCut
        file.durable = bytearray(file.now)
        file.pending.clear()

    def sync_folder(self, folder: Path) -> None:
        if self._step():
            raise PowerCut
        self.durable_names = dict(self.names)
        self.name_changes.clear()

    def rename(self, source: Path, target: Path) -> None:
        if self._step():
            raise PowerCut
        file = self.names[source]

        def change(names: dict[Path, File]) -> None:
            names.pop(source, None)
            names[target] = file

        self._name(change)

    def unlink(self, path: Path) -> None:
        if self._step():
            raise PowerCut
        self._name(lambda names: names.pop(path, None) and None)

    def exists(self, path: Path) -> bool:
        return path in self.names

    def is_at(self, fd: int, path: Path) -> bool:
        return self.names.get(path) is self.fds[fd]

    def lock(self, fd: int) -> bool:
        file = self.fds[fd]
        if any(other is file for held, other in self.locks.items() if held != fd):
            return False
        self.locks[fd] = file
        return True
