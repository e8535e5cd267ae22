"""One run of `generate`: opens its two ends, runs the job between them, and tells how it went.

Everything that can be found wrong cheaply is found before the model is loaded: the model's name and its
parameters, misspelt keys in the manifest, an output that exists.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixano_vlm.catalog import create_model, weights_on_disk
from pixano_vlm.cli.errors import EXIT_INTERRUPTED
from pixano_vlm.cli.interruption import Interruption
from pixano_vlm.cli.load import load_weights, static_batches
from pixano_vlm.cli.outcome import tell
from pixano_vlm.cli.progress import Progress
from pixano_vlm.errors import OutputError, UsageError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.generation import GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.vlm import VLMModel

if TYPE_CHECKING:
    from pixano_vlm.cli.ray import RayPool
    from pixano_vlm.inputs.manifest import Manifest
    from pixano_vlm.inputs.open import Source
    from pixano_vlm.outputs.run_file import Provenance
    from pixano_vlm.records.request import Result
    from pixano_vlm.runs.open import Outputs
    from pixano_vlm.runs.summary import Summary

__all__ = ["Batch", "run_batch"]


@dataclass(frozen=True, slots=True)
class Batch:
    """What `generate` was asked to do."""

    source: Source
    output: Path | None
    """`None` is standard output."""
    model: ModelDeploymentConfig
    settings: GenerationSettings
    run_seed: int | None
    limits: Limits
    limit: int | None
    resume: bool
    retry_failed: bool
    retry_flagged: bool
    overwrite: bool
    summary_json: Path | None
    quiet: bool
    pool: RayPool | None = None
    """Workers to run the model in; `None` runs it here."""
    dry_run: bool = False
    exports: tuple[Path, ...] = ()
    """Other forms to write the output in when the run is complete."""
    sidecar: str | None = None
    """`txt` or `json`: a file of that kind beside each picture."""
    sidecar_overwrite: bool = False
    command: tuple[str, ...] = ()
    """The arguments it was asked with, for the message that says how to go on."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What was named as the manifest and how it is read, for the run's file of facts."""

    @property
    def is_repeatable(self) -> bool:
        """Whether the same command reads the same again: not from standard input."""
        return self.source.path is not None or self.source.rows is not None


def run_batch(batch: Batch) -> int:
    """Does it, and returns the exit code: 0, 1 when records failed, 130 when interrupted.

    Raises:
        UsageError: When the model, the manifest or the output is not to be had as asked.
        ModelLoadError: When the model cannot be loaded.
        RunError: When the run cannot go on.
    """
    from pixano_vlm.cli.dry_run import dry_run
    from pixano_vlm.inputs.manifest import Manifest
    from pixano_vlm.inputs.preflight import check_manifest_keys
    from pixano_vlm.outputs.exports import check_exports, write_exports
    from pixano_vlm.runs.open import open_outputs

    if batch.overwrite and batch.resume:
        raise OutputError(
            "--overwrite and --resume ask for opposite things.",
            hint="--resume keeps the answers that are there, --overwrite discards them.",
        )
    model = create_model(batch.model) if batch.pool is None else batch.pool.create(batch.model)
    model.limits = batch.limits
    asked = batch.settings.response_format
    if asked is not None and (why := model.cannot_follow(asked)):
        raise UsageError(f"the JSON schema {why}")
    source = batch.source
    manifest = Manifest(
        source.path, rows=source.rows, settings=batch.settings, limits=batch.limits, run_seed=batch.run_seed
    )
    records = check_manifest_keys(source.path) if source.rows is None else source.rows.count()
    if records is not None and batch.limit is not None:
        records = min(records, batch.limit)
    with Progress(quiet=batch.quiet) as progress, Weights(model, progress) as weights:
        if batch.dry_run:
            progress.expect(records)
            return dry_run(batch, manifest, weights, progress)
        check_exports(batch.exports, source=source.path, replace=batch.resume or batch.overwrite)
        if weights_on_disk(batch.model) is False and not _refused(batch):
            # The fingerprint, which resuming compares, is that of the weights: they have to be here first.
            weights.load()
        fingerprint = model.fingerprint()
        with (
            open_outputs(
                batch.output,
                manifest,
                model=batch.model.name,
                fingerprint=fingerprint,
                resume=batch.resume,
                overwrite=batch.overwrite,
                retry_failed=batch.retry_failed,
                retry_flagged=batch.retry_flagged,
                limit=batch.limit,
            ) as opened,
            _with_sidecars(batch, opened, manifest) as outputs,
        ):
            progress.expect(records if outputs.to_do is None else outputs.to_do)
            with _provenance(batch, fingerprint) as record:
                summary = _run(weights, outputs, progress, record, retry_flagged=batch.retry_flagged)
    if batch.output is not None and batch.exports and not summary.interrupted:
        write_exports(batch.output, batch.exports)
    tell(batch, summary, beside=outputs.beside, go_on=resume_command(batch.command))
    if summary.interrupted:
        return EXIT_INTERRUPTED
    return 1 if summary.failed or summary.reused_failed else 0


def _refused(batch: Batch) -> bool:
    """Whether opening the output will fail because it exists: nothing is fetched before that is told."""
    return batch.output is not None and batch.output.exists() and not (batch.resume or batch.overwrite)


class Weights:
    """The model, loaded at most once, and only when something needs it; unloaded at the end."""

    def __init__(self, model: VLMModel, progress: Progress) -> None:
        self.model = model
        self._progress = progress
        self._loaded = False

    def __enter__(self) -> Weights:
        return self

    def __exit__(self, *exc: object) -> None:
        # What a model has started beside this process, and its connections, end in good order.
        if self._loaded:
            self.model.unload()

    def load(self) -> None:
        """Loads them, unless they are."""
        if not self._loaded:
            self._progress.say(f"loading {self.model.model_name} ...")
            load_weights(self.model)
            self._loaded = True
            if notice := static_batches(self.model):
                self._progress.say(notice)


def _run(
    weights: Weights, outputs: Outputs, progress: Progress, record: RunRecord, *, retry_flagged: bool
) -> Summary:
    from pixano_vlm.runs.job import run_job

    def load() -> VLMModel:
        # Called when the first record needs the model: a run that has nothing left to do never loads it.
        with interruption.at_once():
            weights.load()
        record.describe(weights.model)
        progress.begin()
        return weights.model

    def count(result: Result) -> None:
        tokens = result.output.usage.completion_tokens if result.output is not None else 0
        progress.add(ok=result.ok, tokens=tokens)

    if outputs.to_do == 0:
        progress.say("nothing is left to do.")
    with Interruption(lambda: progress.say(STOPPING)) as interruption:
        summary = run_job(
            outputs.requests(),
            load,
            outputs,
            on_result=count,
            stop=interruption.stop,
            retry_flagged=retry_flagged,
        )
    summary.reused += outputs.there
    record.summary = summary
    return summary


def _with_sidecars(batch: Batch, outputs: Outputs, manifest: Manifest) -> Outputs:
    from pixano_vlm.outputs.sidecars import SidecarOutputs

    if batch.sidecar is None:
        return outputs
    return SidecarOutputs(
        outputs, manifest, batch.sidecar, batch.model.name, overwrite=batch.sidecar_overwrite
    )


STOPPING = "stopping: what is under way is finished first; once more ends at once."


class RunRecord:
    """The run's file of facts beside its output, or nothing where the output is a stream."""

    def __init__(self, provenance: Provenance | None) -> None:
        self.summary: Summary | None = None
        self._provenance = provenance

    def describe(self, model: VLMModel) -> None:
        """Adds what the loaded model says of itself."""
        if self._provenance is not None:
            self._provenance.describe(model.describe())

    def end(self) -> None:
        """Says how the run ended: without a summary it failed."""
        if self._provenance is None:
            return
        how = "failed" if self.summary is None else "interrupted" if self.summary.interrupted else "complete"
        self._provenance.end(self.summary, how)


@contextmanager
def _provenance(batch: Batch, fingerprint: str) -> Iterator[RunRecord]:
    from pixano_vlm.outputs.run_file import Provenance

    if batch.output is None or not batch.output.is_file():
        yield RunRecord(None)
        return
    provenance = Provenance(
        batch.output,
        command=["pixano-vlm", *batch.command],
        model={**batch.model.model_dump(exclude_defaults=True), "fingerprint": fingerprint},
        settings=batch.settings.model_dump(exclude_none=True)
        | {
            "run_seed": batch.run_seed,
            "source": {key: value for key, value in batch.asked.items() if value is not None},
        },
        manifest=" ".join(batch.asked["manifest"]) if batch.is_repeatable else "standard input",
        resumed=batch.resume,
    )
    provenance.write()
    record = RunRecord(provenance)
    try:
        yield record
    finally:
        record.end()


def resume_command(args: Sequence[str]) -> str:
    """The command that goes on where this one stopped."""
    # Not --retry-failed either: what this run has retried would be tried once more.
    dropped = {"--overwrite", "--resume", "--retry-failed"}
    if any(arg.startswith("--sidecar") for arg in args):
        dropped.discard(
            "--overwrite"
        )  # with --resume, it is about the files beside the pictures still to be done
    kept = [arg for arg in args if arg not in dropped]
    return shlex.join(["pixano-vlm", *kept, "--resume"])
