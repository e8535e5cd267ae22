"""One run: inputs through a model into an output, as an iterator of results.

Everything that can be found wrong cheaply is found before the model is loaded: parameters, misspelt keys in the
manifest, an output that exists. The command line, the tests and the benchmarks run this; it draws nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from pixano_vlm.catalog.weights import weights_on_disk
from pixano_vlm.errors import ManifestError, OutputError, RunError, UsageError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.inputs.page_rows import page_rows
from pixano_vlm.inputs.preflight import check_manifest_keys
from pixano_vlm.media.formats import passed_over
from pixano_vlm.models.generation import GenerationSettings
from pixano_vlm.models.vlm import VLMModel
from pixano_vlm.outputs.exports import check_exports, states_of, write_exports
from pixano_vlm.outputs.null import NullSink
from pixano_vlm.outputs.run_file import RunFile, read_run_file
from pixano_vlm.outputs.stream import StreamSink
from pixano_vlm.outputs.table_columns import Given
from pixano_vlm.prompts.response_format import keys_of
from pixano_vlm.records.result import Result
from pixano_vlm.runs.changes import CALIBRATION
from pixano_vlm.runs.deferred import defer
from pixano_vlm.runs.events import RunEvents
from pixano_vlm.runs.job import Job
from pixano_vlm.runs.model import LazyModel
from pixano_vlm.runs.open import Opened, open_output
from pixano_vlm.runs.options import RunOptions
from pixano_vlm.runs.recorded import inputs_of, kept
from pixano_vlm.runs.regions import HINT, UNKNOWN
from pixano_vlm.runs.remaining import AllRemaining, unanswered
from pixano_vlm.runs.summary import Summary

__all__ = ["Run"]

NAMED = 3
"""Most records that are named in an error."""


class Run:
    """One run. Iterating does it, and yields each result after it was written; `finish` does it to the end.

    Args:
        options: What to do.
        events: Told how far it is.

    Attributes:
        summary: Counts and rates so far; final once the run has ended.

    Raises:
        UsageError: When the model, the inputs or the output are not to be had as asked.
    """

    def __init__(self, options: RunOptions, events: RunEvents | None = None) -> None:
        self._options, self._events = options, events or RunEvents()
        self._stop = threading.Event()
        self._started = False
        self.summary = Summary()
        self.backup: Path | None = None
        """Where lines of earlier answers are that have no new answer."""
        opening = options.opening
        if opening.overwrite and opening.resume:
            raise OutputError(
                "--overwrite and --resume ask for opposite things.",
                hint="--resume keeps the answers that are there, --overwrite discards them.",
            )
        model, asked = options.model, options.settings.response_format
        model.limits = options.limits
        if asked is not None and (why := model.cannot_follow(asked)):
            raise UsageError(f"the JSON schema {why}")
        _refuse_unknown(model, options.settings)
        if options.sidecars is not None and options.sidecars.kind == "yolo" and not options.settings.regions:
            raise UsageError("--sidecar yolo writes boxes, and none are asked for.", hint="Add --regions.")
        source = options.source
        rows = page_rows(source, options.limits) if options.pages == "each" else source.rows
        self.manifest = Manifest(
            source.path, rows=rows, stream=source.stream, name=source.name, settings=options.settings,
            limits=options.limits, run_seed=options.run_seed, pages=options.pages, naming=source.naming,
            system=options.system, with_prompt=options.with_prompt,
        )  # fmt: skip
        self.passed_over = {} if rows is None else dict(rows.passed_over())
        """Of a folder, how many files are not read, by suffix."""
        self.count = self._count()
        """How many records there are; None where nobody knows before they were read."""
        if self.count is not None:
            self.manifest.expect_ids(self.count)

    def _count(self) -> int | None:
        source, limit = self._options.source, self._options.opening.limit
        rows, path = source.rows, source.path
        count = check_manifest_keys(path, source.naming) if rows is None else rows.count()
        if count == 0:
            raise ManifestError(
                f"{source.name or self.manifest.rules.name} holds no records.",
                hint="Write one record per line, or one per row below the columns' names.",
            )
        if count is None or self._options.pages == "each":
            return None
        return count if limit is None else min(count, limit)

    def stop(self) -> None:
        """Starts nothing more; what is in flight may finish. Safe to call from any thread and from a signal."""
        self._stop.set()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def finish(self, on_result: Callable[[Result], None] | None = None) -> Summary:
        """Does the run to its end.

        Args:
            on_result: Called after each result was written.

        Raises:
            ModelLoadError: When the model cannot be loaded.
            RunError: When the model or the disk fails; what was written is safe, and the run can be resumed.
        """
        for result in self:
            if on_result is not None:
                on_result(result)
        return self.summary

    def __iter__(self) -> Iterator[Result]:
        """The results, each after it was written, in whatever order suits the model; once.

        Raises:
            OutputError: When the output cannot be opened, or resuming it would ask too much again.
            ModelLoadError: When the model cannot be loaded.
            RunError: When the model or the disk fails; what was written is safe, and the run can be resumed.
        """
        if self._started:
            raise RunError("a run is iterated once.", hint="Make another one with the same options.")
        self._started = True
        with ExitStack() as stack:
            model = stack.enter_context(self.lazy_model())
            opened = stack.enter_context(self._open(model))
            yield from self._answered(model, opened)

    def lazy_model(self) -> LazyModel:
        """The run's model, not loaded yet unless it was before."""
        options = self._options
        return LazyModel(options.model, on_loading=self._events.loading)

    def _answered(self, model: LazyModel, opened: Opened) -> Iterator[Result]:
        options = self._options
        count = opened.remaining.count
        if (line := passed_over(self.passed_over)) is not None:
            self._events.passed_over(line)
        self._events.opened(self.count if count is None else count, opened.notice)
        file = self._run_file()

        def load() -> VLMModel:
            # Called when the first record needs the model: a run that has nothing left to do never loads it.
            loaded = model.load()
            _refuse_budget(loaded, options.settings)
            if file is not None:
                file.describe(loaded.describe())
                if not opened.sink.untouched:
                    file.write()
            self._events.loaded(loaded)
            return loaded

        job = Job(
            opened.remaining,
            load,
            opened.sink,
            stop=self._stop,
            retry_flagged=options.opening.retry_flagged,
            least_confidence=options.least_confidence,
            calibration=options.calibration,
        )
        self.summary = job.summary
        self.summary.passed_over.update(self.passed_over)
        how, is_noted = "failed", False
        try:
            for result in job:
                if file is not None and not is_noted:
                    is_noted = True
                    file.write()
                yield result
            how = "interrupted" if job.summary.interrupted else "complete"
        except GeneratorExit:  # whoever takes the results wants no more
            how = "interrupted"
            raise
        finally:
            # A start that failed before anything was written leaves no run file behind.
            if file is not None and not opened.sink.untouched:
                file.end(job.summary.to_dict() if how != "failed" else None, how)
        if how == "complete":
            self._account(opened)
            self._settle(opened, file)

    def _account(self, opened: Opened) -> None:
        """Sees that answered, failed and skipped records are all that there are.

        Raises:
            RunError: When some have no line, which it names.
        """
        if (
            self.count is None
            or self._options.opening.limit is not None
            or self.summary.records >= self.count
        ):
            return
        missing = list(islice(unanswered(self.manifest, opened.sink), NAMED + 1))
        if missing:
            names = ", ".join(missing[:NAMED]) + (" and others" if len(missing) > NAMED else "")
            raise RunError(
                f"{self.count:,} records were to be answered, and {self.summary.records:,} are: {names} "
                "have no line in the output.",
                hint="Resume it: the same command with --resume. If nobody changed the manifest meanwhile, please "
                "report this.",
            )

    def _settle(self, opened: Opened, file: RunFile | None) -> None:
        options = self._options
        self.backup = opened.settle()
        if isinstance(options.output, Path) and options.exports:
            rows, asked = options.source.rows, options.settings.response_format
            given = None if rows is None or not rows.kinds else Given(rows.kinds, rows.given)
            write_exports(options.output, options.exports, given, keys_of(asked), options.shard_size)
            if file is not None:
                file.note_exports(states_of(options.exports))

    def _open(self, model: LazyModel) -> Opened:
        options, output = self._options, self._options.output
        opening = options.opening
        if not isinstance(output, Path):
            sink = NullSink() if output is None else StreamSink(options.model.model_name, output)
            if opening.resume:
                raise OutputError(
                    "a run that writes to a stream cannot be resumed.", hint="Name a file with -o FILE."
                )
            return Opened(sink, AllRemaining(self.manifest, opening.limit), _manifest=self.manifest)
        guarded = opening.resume and not opening.force
        check_exports(
            options.exports,
            sources=options.source.files,
            replace=opening.resume or opening.overwrite,
            shard_size=options.shard_size,
            written=_written(output) if guarded else None,
        )
        refused = output.exists() and not (opening.resume or opening.overwrite)
        if not options.model.is_loaded and not refused and weights_on_disk(options.model.config) is False:
            # The fingerprint, which resuming compares, is that of the weights: they have to be here first.
            model.load()
        name, asked = options.model.model_name, options.asked
        opened = open_output(
            output,
            self.manifest,
            model=name,
            fingerprint=self._fingerprint(),
            options=opening,
            facts={key: asked[key] for key in ("prompt", "source") if asked.get(key)},
        )
        if options.sidecars is None:
            # Asking once more, with other settings, takes a request's input, which is elsewhere then.
            if opening.retry_flagged:
                return opened
            return defer(
                opened, self.manifest, options.model, opening.limit, fingerprint=self._fingerprint(),
                least_confidence=options.least_confidence, calibration=options.calibration,
            )  # fmt: skip
        return opened.with_sidecars(options.sidecars, self.manifest.rules.base_dir, name)

    def _fingerprint(self) -> str:
        """What distinguishes this run's answers from others: the model, and what is done with its confidences."""
        found, calibration = self._options.model.fingerprint(), self._options.calibration
        return found if calibration is None else f"{found}{CALIBRATION}{calibration.digest}"

    def _run_file(self) -> RunFile | None:
        options, output = self._options, self._options.output
        if not isinstance(output, Path) or (output.exists() and not output.is_file()):
            return None
        asked = options.asked
        return RunFile(
            output,
            command=["pixano-vlm", *options.command] if options.command else [],
            model={
                **options.model.config.model_dump(exclude_defaults=True),
                "fingerprint": options.model.fingerprint(),
            },
            settings=self.manifest.rules.settings.model_dump(exclude_none=True)
            | {
                "run_seed": options.run_seed,
                **({} if options.calibration is None else {"calibration": options.calibration.model_dump()}),
                "source": {key: value for key, value in asked.items() if value is not None},
            },
            manifest=options.source.name or self.manifest.rules.name,
            inputs=kept(inputs_of(options, self.manifest, self._fingerprint())),
            resumed=options.opening.resume,
        )


def _refuse_unknown(model: VLMModel, settings: GenerationSettings) -> None:
    if settings.regions and model.config.regions is None:
        raise UsageError(f"--regions: {UNKNOWN.format(name=model.model_name)}", hint=HINT)
    _refuse_budget(model, settings)


def _refuse_budget(model: VLMModel, settings: GenerationSettings) -> None:
    asked = [name for name in ("max_pixels", "min_pixels") if getattr(settings, name) is not None]
    if asked and (why := model.cannot_budget_images()):
        flag = asked[0].replace("_", "-")
        raise UsageError(f"--{flag} {why}.", hint=f"Leave --{flag} out, or use another model.")


def _written(output: Path) -> dict[str, Any] | None:
    """By what the files are recognised that the last run made of the output; None where nobody knows."""
    try:
        values = read_run_file(output)
    except OutputError:  # damaged: it is written again
        return None
    runs = [] if values is None else [values, *reversed(values.get("earlier") or [])]
    return next((run["exports"] for run in runs if isinstance(run.get("exports"), dict)), None)
