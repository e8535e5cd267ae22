"""Opens the place for a run's results, and finds out what is left to do: a durable JSONL file, or a stream."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from pixano_vlm.clock import CLOCK, Clock
from pixano_vlm.errors import RESUME, OutputError, RunError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.outputs.disk import DISK, Disk
from pixano_vlm.outputs.journal import Journal
from pixano_vlm.outputs.jsonl import Fresh, JsonlSink, Keys, Standing, journal_path, new_path
from pixano_vlm.outputs.sidecars import SidecarSink
from pixano_vlm.outputs.sink import Sink
from pixano_vlm.outputs.stream import StreamSink
from pixano_vlm.runs.backup import Backup, backup_path
from pixano_vlm.runs.changes import is_guarded, what_holds
from pixano_vlm.runs.reconcile import Reconciled, reconcile
from pixano_vlm.runs.remaining import AllRemaining, JournalRemaining, Remaining, SidecarRemaining

__all__ = ["OpenOptions", "Opened", "Sidecars", "open_output"]

REPLACEABLE = ("settings", "run_seed", "limits")
"""What of a journal's context may change for the records alone that are asked again on request."""


@dataclass(frozen=True, slots=True)
class Sidecars:
    """A file beside each image with its answer."""

    kind: str
    """`txt` or `json`."""
    overwrite: bool = False
    """Whether a file that is there is written over."""


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """What may be done with an output that exists."""

    resume: bool = False
    """Keep the answers that still hold. Nothing there yet: start."""
    overwrite: bool = False
    """Discard what is there, once the first new result is written."""
    force: bool = False
    """With `resume`, ask again however many answers hold no longer."""
    retry_failed: bool = False
    """With `resume`, ask failed records again."""
    retry_flagged: bool = False
    """With `resume`, ask those again whose answer is flagged and was not tried again yet."""
    limit: int | None = None
    """Only the first so many records."""


@dataclass(slots=True)
class Opened:
    """Where results go, and what is left to do."""

    sink: Sink
    remaining: Remaining
    notice: str | None = None
    """What is to be said of earlier answers that hold no longer."""
    _backup: Backup | None = field(default=None, repr=False)
    """Where their lines are kept."""
    _manifest: Manifest | None = field(default=None, repr=False)

    def settle(self) -> Path | None:
        """Ends a complete run: where lines of earlier answers are that have no new one; None: there are none.

        Raises:
            RunError: When a file cannot be read or removed; the output holds every result.
        """
        backup = self._backup
        try:
            stays = backup is not None and backup.settle(is_waited_for=self.sink.has_stale)
        except OSError as error:
            assert backup is not None
            raise RunError(
                f"{backup.path} cannot be read or removed: {error.strerror or error}. The output holds every result.",
                hint=RESUME,
            ) from error
        return backup.path if stays and backup is not None else None

    def with_sidecars(self, sidecars: Sidecars, folder: str, model: str) -> Opened:
        """This, with a file beside each image."""
        sink = SidecarSink(self.sink, folder, sidecars.kind, model, overwrite=sidecars.overwrite)
        return Opened(sink, SidecarRemaining(self.remaining, sink), self.notice, self._backup, self._manifest)

    def with_remaining(self, remaining: Remaining) -> Opened:
        """This, with the same left to do in another way."""
        return replace(self, remaining=remaining)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remaining.close()
        self.sink.close()
        if self._manifest is not None:
            self._manifest.close()


def open_output(
    path: Path | None,
    manifest: Manifest,
    *,
    model: str,
    fingerprint: str,
    options: OpenOptions | None = None,
    facts: Mapping[str, Any] | None = None,
    stream: TextIO | None = None,
    disk: Disk = DISK,
    clock: Clock = CLOCK,
) -> Opened:
    """Opens an output for the results of `manifest`.

    Args:
        path: A file; None or `-` for a text stream. What is there and is not a regular file is written as a stream.
        manifest: Where the records come from.
        model: The model's name, for the output's lines.
        fingerprint: What distinguishes its answers from another model's.
        options: What may be done with an output that exists.
        facts: What was asked for, by name, to explain later what changed: `prompt`, `source`.
        stream: Written instead of standard output.
        disk: The file system.
        clock: The time.

    Raises:
        OutputError: When the file exists and nothing is to be done with it, another run writes it, it cannot be
            opened, or resuming it would ask too much again.
        ManifestError: When the manifest cannot be read.
    """
    options = options or OpenOptions()
    remaining = AllRemaining(manifest, options.limit)
    if path is None or str(path) == "-":
        return Opened(_to_stream(stream or sys.stdout, model, options), remaining, _manifest=manifest)
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", hint="Name a file with -o FILE.")
    if path.exists() and not path.is_file():  # a pipe, or /dev/null
        sink = _to_stream(path.open("w", encoding="utf-8"), model, options, own=True)
        return Opened(sink, remaining, _manifest=manifest)
    if manifest.source is not None and path.exists() and path.samefile(manifest.source):
        raise OutputError(f"{path} is the manifest itself.", hint="Name another file with -o FILE.")
    exists = disk.exists(path)
    if exists and not (options.resume or options.overwrite):
        raise OutputError(
            f"{path} exists.",
            hint="Resume it (--resume), replace it (--overwrite), or name another (-o FILE).",
        )
    try:
        if options.resume and exists:
            manifest.spool()
        opening = _Opening(path, manifest, model, fingerprint, options, dict(facts or {}), disk, clock)
        return opening.resume() if options.resume and exists else opening.start()
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.", hint=_hint(error, path)
        ) from error


class _Opening:
    """Takes the files of a JSONL output for this process."""

    def __init__(
        self, path: Path, manifest: Manifest, model: str, fingerprint: str, options: OpenOptions,
        facts: dict[str, Any], disk: Disk, clock: Clock,
    ) -> None:  # fmt: skip
        self.path, self.beside = path, journal_path(path)
        self.manifest, self.model, self.fingerprint = manifest, model, fingerprint
        self.options, self.facts, self.disk, self.clock = options, facts, disk, clock
        # What must be as it was for an unchanged line to be done without looking into it.
        self.context = {"model": model, "fingerprint": fingerprint, **manifest.rules.context()}
        self.keys = Keys(fingerprint, manifest.rules.run_seed, manifest.rules.limits)

    def start(self) -> Opened:
        """A run from nothing. What was there stays until the first result is written."""
        disk = self.disk
        had_journal, had_output = disk.exists(self.beside), disk.exists(self.path)
        lock = _lock(disk, self.beside, self.path)
        fresh = Fresh(disk, self.path, lock, had_journal=had_journal, had_output=had_output)
        with contextlib.ExitStack() as undo:
            undo.callback(fresh.abandon)
            self._tidy()
            journal = self._journal(self.context, undo)
            fd = disk.open(self.path, create=True)
            undo.callback(disk.close, fd)
            sink = self._sink(fd, journal, Standing(), fresh)
            opened = Opened(sink, AllRemaining(self.manifest, self.options.limit), _manifest=self.manifest)
            undo.pop_all()
        return opened

    def resume(self) -> Opened:
        """A run that continues an earlier one."""
        disk, options = self.disk, self.options
        backup = Backup(self.path, disk)
        with contextlib.ExitStack() as locked:
            lock = _lock(disk, self.beside, self.path)
            locked.callback(disk.close, lock)
            self._tidy()
            old = Journal.open(disk, lock)
            with contextlib.ExitStack() as undo:
                new = self._journal(self.context if old is None else self._context(old), undo)
                fd = disk.open(self.path, create=True)
                undo.callback(disk.close, fd)
                if old is None and disk.size(fd):
                    raise OutputError(
                        f"{self.path} has no journal ({self.beside.name}), so nobody can tell what is done.",
                        hint="Replace it with --overwrite, or name another file with -o FILE.",
                    )
                undo.callback(backup.discard)
                found, notice = Reconciled(remaining=None), None
                if old is not None:
                    found = reconcile(
                        old, new, self.manifest, output=fd, disk=disk, model=self.model, fingerprint=self.fingerprint,
                        retry_failed=options.retry_failed, retry_flagged=options.retry_flagged, limit=options.limit,
                        replaced=backup.add,
                    )  # fmt: skip
                    undo.callback(disk.truncate, fd, found.old_end)
                    notice = self._guard(found, old, new)
                backup.keep()
                disk.sync(fd)
                new.sync()
                disk.rename(new_path(self.beside), self.beside)
                # From here on the new journal counts: what it points at stays, whatever fails.
                undo.pop_all()
                undo.callback(new.close)
                undo.callback(disk.close, fd)
                disk.sync_folder(self.beside.parent)
                sink = self._sink(fd, new, found.standing)
                remaining: Remaining = JournalRemaining(self.manifest, sink, found, self.model, options.limit)
                opened = Opened(sink, remaining, notice, backup, self.manifest)
                undo.pop_all()
        return opened

    def _sink(self, fd: int, journal: Journal, standing: Standing, fresh: Fresh | None = None) -> JsonlSink:
        return JsonlSink(
            self.path,
            self.model,
            self.keys,
            disk=self.disk,
            fd=fd,
            journal=journal,
            standing=standing,
            fresh=fresh,
            clock=self.clock,
        )

    def _tidy(self) -> None:
        # A run was killed while lines were put in order, or while those that hold no longer were put aside.
        for path in (new_path(self.path), new_path(backup_path(self.path))):
            if self.disk.exists(path):
                self.disk.unlink(path)

    def _journal(self, context: Mapping[str, Any], undo: contextlib.ExitStack) -> Journal:
        journal = Journal.create(self.disk, new_path(self.beside), dict(context), self.facts)

        @undo.callback
        def remove() -> None:
            journal.close()
            with contextlib.suppress(OSError):
                self.disk.unlink(new_path(self.beside))

        return journal

    def _context(self, old: Journal) -> Mapping[str, Any]:
        """The new journal's: the old one's where only settings changed, and those for the retried records alone."""
        differing = [name for name in self.context if self.context[name] != old.context.get(name)]
        retries = self.options.retry_failed or self.options.retry_flagged
        return old.context if retries and set(differing) <= set(REPLACEABLE) else self.context

    def _guard(self, found: Reconciled, old: Journal, new: Journal) -> str | None:
        if not found.lost:
            return None
        text = what_holds(found, old, new)
        if is_guarded(found) and not self.options.force:
            raise OutputError(
                f"{self.path}: {'only ' if found.ok else ''}{text}.",
                hint="To keep them, resume with what they were asked with. To ask the others again, add --force.",
            )
        return text


def _to_stream(stream: TextIO, model: str, options: OpenOptions, *, own: bool = False) -> StreamSink:
    if options.resume:
        raise OutputError(
            "a run that writes to a stream cannot be resumed.", hint="Name a file with -o FILE."
        )
    return StreamSink(model, stream, own=own)


def _lock(disk: Disk, beside: Path, output: Path) -> int:
    """The journal's descriptor, locked for this process."""
    while True:
        fd = disk.open(beside, create=True)
        if not disk.lock(fd):
            disk.close(fd)
            raise OutputError(
                f"another run is writing {output}.", hint="Wait for it, or name another file with -o FILE."
            )
        # The run that had it may have put a new journal in its place between our opening and our locking.
        if disk.is_at(fd, beside):
            return fd
        disk.close(fd)


def _hint(error: OSError, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"Create the folder {path.parent}, or name another file with -o FILE."
    return "Make room or change its permissions, or name another file with -o FILE."
