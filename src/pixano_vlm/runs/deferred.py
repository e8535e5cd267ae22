"""A run whose records are read by those who answer them: workers take whole files, and this process none.

It knows the places of records, ids and answers: what a journal has. What a record asks, its content keys and its
flags come from the worker with the answer. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat

from pixano_vlm.errors import VLMError
from pixano_vlm.inputs.hash_table import HashTable
from pixano_vlm.inputs.manifest import Manifest, line_of_row
from pixano_vlm.inputs.shard_reader import ShardReader
from pixano_vlm.inputs.shards import Shards
from pixano_vlm.models.deferred import Deferred, DeferredReader, TakesDeferred
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.vlm import VLMInput, VLMModel, VLMOutput
from pixano_vlm.outputs import journal as journals
from pixano_vlm.outputs.jsonl import JsonlSink
from pixano_vlm.records.calibration import Calibration
from pixano_vlm.records.content_key import record_keys
from pixano_vlm.records.request import Line, Request
from pixano_vlm.records.result import Result
from pixano_vlm.runs.answered import AnswerRules, result_of
from pixano_vlm.runs.open import Opened
from pixano_vlm.runs.regions import RegionReader
from pixano_vlm.runs.remaining import Remaining

__all__ = ["defer"]

CHUNK = 64
"""Records of one file after which those of another come."""


def defer(
    opened: Opened,
    manifest: Manifest,
    model: VLMModel,
    limit: int | None,
    *,
    fingerprint: str,
    least_confidence: float | None = None,
    calibration: Calibration | None = None,
) -> Opened:
    """The same place for results, its records read where they are answered; as it was where that cannot be.

    It can where the model takes such records, and the manifest has at least as many files as the model reads at once,
    each of which says how many records it has.
    """
    rows, sink = manifest.rows, opened.sink
    if not (isinstance(model, TakesDeferred) and isinstance(rows, Shards) and isinstance(sink, JsonlSink)):
        return opened
    if not rows.are_numbered or len(rows.files) < model.parts_at_once:
        return opened
    rules = manifest.rules
    reader = _AnswerReader(
        ShardReader(rows, rules), rows.starts(), fingerprint, rules.run_seed, rules.limits,
        type(model).__name__, AnswerRules(RegionReader(model, rules.limits), least_confidence, calibration),
    )  # fmt: skip
    model.read_with(reader)
    remaining = _DeferredRemaining(opened.remaining, manifest, rows, sink, model.parts_at_once, limit)
    return opened.with_remaining(remaining)


class _AnswerReader(DeferredReader):
    """In a worker: requests by their places, and what their answers come to."""

    def __init__(
        self,
        reader: ShardReader,
        starts: list[int],
        fingerprint: str,
        run_seed: int,
        limits: Limits,
        model: str,
        answers: AnswerRules,
    ) -> None:
        self._reader, self._starts = reader, starts
        self._fingerprint, self._run_seed, self._limits, self._model = fingerprint, run_seed, limits, model
        self._answers = answers
        self._requests: dict[Hashable, Request] = {}

    def read(self, key: Hashable, deferred: Deferred) -> VLMInput | None:
        """The request's input."""
        record = self._starts[deferred.part] + deferred.number
        request = self._reader.request(deferred.part, deferred.number, record)
        self._requests[key] = request
        return request.input

    def conclude(self, key: Hashable, answer: VLMOutput | VLMError | None) -> Result:
        """The result, its request without the input, which may hold images, and with the keys that it is known by."""
        request = self._requests.pop(key)
        if answer is None:
            return Result(request, error=request.error)
        who = f"{self._model}.stream answered with"
        result = result_of(request, answer, who, self._answers)
        keys = record_keys(request, self._fingerprint, self._run_seed, self._limits)
        return replace(result, request=replace(request, input=None, keys=keys))


@dataclass(frozen=True, slots=True)
class _Lane:
    """The records of one file that are to be done, and how many records there are before it."""

    part: int
    lines: Iterator[Line]


class _DeferredRemaining(Remaining):
    """The places of the records that are still to be done, those of several files by turns.

    Args:
        inner: The same, in order and read here; it has counted them.
        manifest: The manifest, for the few records that are read here after all.
        shards: Its files.
        sink: The output.
        parts: So many files by turns.
        limit: Only the first so many records.
    """

    def __init__(
        self,
        inner: Remaining,
        manifest: Manifest,
        shards: Shards,
        sink: JsonlSink,
        parts: int,
        limit: int | None,
    ) -> None:
        self._inner, self._manifest, self._shards, self._sink = inner, manifest, shards, sink
        self._parts, self._limit = parts, limit
        self._ids = HashTable(values=True)
        """Ids -> the records that have them, from 1."""
        self._taken: dict[int, tuple[Line, int]] = {}
        """Records that were handed out -> their lines, and the length of the line that they replace."""
        self.reused, self.reused_failed, self.count = inner.reused, inner.reused_failed, inner.count

    def __iter__(self) -> Iterator[Request]:
        for index, slot in enumerate(self._sink.journal.slots()):
            if slot is not None and not slot.flags & (journals.STALE | journals.LINE_ERROR):
                self._ids.insert(slot.id_hash, index + 1)
        parts = iter(range(len(self._shards.files)))
        lanes = [self._lane(part) for part in islice(parts, self._parts)]
        while lanes:
            for place, lane in enumerate(list(lanes)):
                chunk = list(islice(lane.lines, CHUNK))
                yield from (self._request(lane.part, line) for line in chunk)
                if len(chunk) < CHUNK:
                    following = next(parts, None)
                    lanes[place] = _Lane(-1, iter(())) if following is None else self._lane(following)
            lanes = [lane for lane in lanes if lane.part >= 0]

    def _lane(self, part: int) -> _Lane:
        return _Lane(part, self._left_of(part))

    def _left_of(self, part: int) -> Iterator[Line]:
        """The lines of a file whose records are to be done."""
        start = self._shards.starts()[part]
        end = start + self._shards.count_of(part)
        slots = chain(self._sink.journal.slots(start), repeat(None))
        row = self._shards.outline_of(part)
        for record in range(start, end if self._limit is None else min(end, self._limit)):
            slot = next(slots)
            if slot is not None and not slot.flags & (journals.STALE | journals.LINE_ERROR):
                continue
            was_wrong = slot is not None and not slot.flags & journals.STALE  # cheap to find again
            self.reused_failed -= was_wrong
            line = line_of_row((record, row(record - start + 1)))
            self._taken[record] = line, slot.length if slot is not None and was_wrong else 0
            yield line

    def _request(self, part: int, line: Line) -> Request:
        number = line.record - self._shards.starts()[part]
        return Request(
            line.record, line.number, line.default_id, None, raw_hash=line.raw_hash,
            source=self._manifest.rules.name, deferred=Deferred(part, number),
        )  # fmt: skip

    def settle(self, result: Result) -> Iterator[Result]:
        """The result as it is to be written, and that of a later record whose id turns out to be this one's."""
        index = result.request.index
        line, length = self._taken.pop(index)
        self._sink.drop(length)
        if result.request.deferred is not None:  # a worker did not come to read it
            request = self._manifest.parse(self._manifest.whole(line), register=False)
            result = replace(result, request=request, error=request.error or result.error)
        # What stands for its text is a file's state, which another machine may see otherwise.
        result = replace(result, request=replace(result.request, raw_hash=line.raw_hash))
        owners = [number - 1 for number in self._ids.find(result.request.id_hash) if number - 1 != index]
        if owners and min(owners) < index:
            yield self._twice(line)
            return
        self._ids.insert(result.request.id_hash, index + 1)
        yield result
        for later in owners:  # it came first, and is answered already
            slot = self._sink.journal.get(later)
            if slot is not None and not slot.flags & journals.LINE_ERROR:
                self._sink.drop(slot.length)
                yield self._twice(next(self._lines_from(later)))

    def _twice(self, line: Line) -> Result:
        """The error of a record whose id an earlier one has."""
        request = self._manifest.parse_refused(self._manifest.whole(line))
        return Result(replace(request, raw_hash=line.raw_hash), error=request.error)

    def _lines_from(self, record: int) -> Iterator[Line]:
        return islice(self._manifest.outline(), record, None)

    def close(self) -> None:
        """Frees the table of ids."""
        self._ids.close()
        self._inner.close()
