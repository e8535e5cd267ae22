"""Five bugs as somebody might make them, each planted in a running program: the simulator must find every one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from pixano_vlm.engines.openai.server import ChatServer
from pixano_vlm.engines.ray.shares import Shares
from pixano_vlm.outputs.jsonl import JsonlSink, slot_of
from pixano_vlm.records.output_line import render
from pixano_vlm.runs.job import Job
from pixano_vlm.runs.reconcile import _Reconciliation

__all__ = ["BUGS"]


def a_missing_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is synced, and the lines are not."""

    def sync(self: Any) -> None:
        with self._syncing:
            self._dirty = False
            with suppress(OSError):
                self.journal.sync()
            self._last_sync = self._clock.now()
            self._check_names()

    monkeypatch.setattr(JsonlSink, "_sync", sync)


def a_lost_workers_record_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a lost worker had, one record is given to nobody."""
    was = Shares.lost

    def lost(self: Any, share: Any) -> None:
        if share.held:
            share.held.popitem()
            self._open -= 1
        was(self, share)

    monkeypatch.setattr(Shares, "lost", lost)


def a_double_answer_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run remembers what it has asked, and not what it has written."""

    class Remembering(dict[int, Any]):
        def __init__(self) -> None:
            super().__init__()
            self.ever: dict[int, Any] = {}

        def __setitem__(self, key: int, value: Any) -> None:
            self.ever[key] = value
            super().__setitem__(key, value)

        def pop(self, key: int, *default: Any) -> Any:
            super().pop(key, None)
            return self.ever.get(key)

    was = Job.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        was(self, *args, **options)
        self._in_flight = Remembering()

    monkeypatch.setattr(Job, "__init__", init)


def an_early_journal_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot is written before its line, and is believed by its own checksum."""
    was = JsonlSink.write

    def write(self: Any, result: Any) -> Any:
        if self._fresh is None:
            data, rendered = render(result, self._model)
            slot = slot_of(rendered.request, data, self._end, self._keys, ok=rendered.ok, is_flagged=False)
            with suppress(OSError):
                self.journal.put(rendered.request.index, slot)
        return was(self, result)

    def verified(self: Any) -> Iterator[Any]:
        return iter(self.old.slots())

    monkeypatch.setattr(JsonlSink, "write", write)
    monkeypatch.setattr(_Reconciliation, "_verified", verified)


def a_retry_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt is the first."""
    was = ChatServer._go_on

    async def go_on(self: Any, course: Any, failure: Any, ticket: Any) -> None:
        course.failed = 0
        await was(self, course, failure, ticket)

    monkeypatch.setattr(ChatServer, "_go_on", go_on)


BUGS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    a_missing_fsync,
    a_lost_workers_record_dropped,
    a_double_answer_counted_twice,
    an_early_journal_slot,
    a_retry_that_forgets,
)
