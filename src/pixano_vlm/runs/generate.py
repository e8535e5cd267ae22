"""The library's front door: a run in one call. What the command line's `generate` does, for Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from pixano_vlm.catalog import create_model, load_catalog, resolve_model
from pixano_vlm.errors import UsageError
from pixano_vlm.inputs.objects import open_objects
from pixano_vlm.inputs.open import Source, open_source
from pixano_vlm.inputs.pages import Pages
from pixano_vlm.inputs.template import Template
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.generation import SETTINGS, GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.vlm import VLMInput, VLMModel
from pixano_vlm.outputs.exports import needs_prompt, split_outputs
from pixano_vlm.records.calibration import read_calibration
from pixano_vlm.runs.events import RunEvents
from pixano_vlm.runs.model import load_weights
from pixano_vlm.runs.open import OpenOptions, Sidecars
from pixano_vlm.runs.options import RunOptions
from pixano_vlm.runs.run import Run
from pixano_vlm.validation import first_problem

__all__ = ["generate", "load_model"]

Inputs = str | Path | Sequence[str | Path] | Iterable[VLMInput] | Iterable[Mapping[str, Any]]


def generate(
    inputs: Inputs,
    model: str | VLMModel | ModelDeploymentConfig,
    *,
    output: str | Path | Sequence[str | Path] | None = None,
    prompt: str | None = None,
    recursive: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
    retry_failed: bool = False,
    retry_flagged: bool = False,
    limit: int | None = None,
    shard_size: int | None = None,
    sidecar: Literal["txt", "json", "yolo"] | None = None,
    system: str | None = None,
    with_prompt: bool = False,
    calibration: str | Path | None = None,
    run_seed: int | None = None,
    limits: Limits | None = None,
    pages: Pages = "first",
    model_params: Mapping[str, Any] | None = None,
    events: RunEvents | None = None,
    **settings: Any,
) -> Run:
    """A run over many records: iterate it for the results, or `finish` it.

        for result in generate("photos", "smolvlm-256m-instruct", prompt="Describe this image."):
            print(result.id, result.text)

    Nothing is loaded or asked before that.

    Args:
        inputs: What the command line takes (a JSONL, CSV or Parquet file, a folder, a glob, a list of them or of
            images), or an iterable of `VLMInput`, or of mappings with the keys of a manifest line. An iterable is
            taken lazily, and once; where a `VLMInput` leaves a setting at its default, the run's and the model's own
            hold.
        model: A registered name, a Hugging Face id, a local folder, a config; or a model, which is loaded when it is
            needed unless it is already, and then left loaded.
        output: A JSONL file, which can be resumed; with more names, other forms of it (`answers.csv`). None: results
            are only handed out.
        shard_size: How many records each file has of an output in shards (`part-{shard}.parquet`, `answers.hf`).
        prompt: What to ask about each image of a folder or row of a table; a template as of `--prompt`.
        recursive: Of a folder, also the folders below it.
        resume: Continue an output that exists: what holds is kept, the rest is asked.
        overwrite: Replace an output that exists.
        force: With `resume`, ask again even where that replaces more than half of the earlier answers.
        retry_failed: With `resume`, ask failed records again.
        retry_flagged: Ask once more where an answer is flagged; with `resume`, those of earlier runs too.
        limit: Only the first so many records.
        sidecar: Also write each answer beside its image; `yolo`: the boxes of `regions=True`.
        system: A system turn for every record that has none of its own.
        with_prompt: Also write what was asked into the output's lines.
        calibration: A file of `pixano-vlm score --calibrate`, applied to each confidence.
        run_seed: Seeds of sampled records that give none are derived from it.
        limits: What a record may open and how large it may be.
        pages: What is read of an image with several pages (TIFF, PDF, an animation) that does not name one: the
            `first`, which flags the answer; `all`, as images of the record; or `each`, as a record of its own.
        model_params: Parameters of the model's class over the config's own, for a model that is given by name.
        events: Told how far the run is.
        **settings: Settings of generation by name (`temperature=0`, `max_new_tokens=64`); a record's own win, and the
            model's own hold for what is left out.

    Raises:
        UsageError: When the model, the inputs or the output are not to be had as asked.
    """
    asked = _settings(settings)
    instance = _model(model, model_params)
    source = _source(inputs, None if prompt is None else Template(prompt), recursive)
    named = [] if output is None else [output] if isinstance(output, (str, Path)) else list(output)
    path, exports = split_outputs(
        [str(name) for name in named], Path(source.stem + ".outputs.jsonl"), source.files
    )
    return Run(
        RunOptions(
            source=source,
            model=instance,
            output=path if named else None,
            exports=exports,
            shard_size=shard_size,
            settings=asked.over(instance.config.generation),
            system=system,
            with_prompt=with_prompt or needs_prompt(exports),
            calibration=None if calibration is None else read_calibration(Path(calibration)),
            run_seed=run_seed,
            limits=limits or Limits(),
            pages=pages,
            opening=OpenOptions(
                resume=resume or retry_failed,
                overwrite=overwrite,
                force=force,
                retry_failed=retry_failed,
                retry_flagged=retry_flagged,
                limit=limit,
            ),
            sidecars=None if sidecar is None else Sidecars(sidecar, overwrite),
            asked={
                "manifest": _named(inputs),
                "prompt": prompt,
                "recursive": recursive or None,
                "pages": None if pages == "first" else pages,
            },
        ),
        events,
    )


def load_model(
    name: str | ModelDeploymentConfig, *, limits: Limits | None = None, **model_params: Any
) -> VLMModel:
    """A model, loaded: for `generate` several times over, or for `predict` and `stream` by hand.

    Args:
        name: A registered name, a Hugging Face id, a local folder, or a config.
        limits: What a record may open and how large it may be.
        **model_params: Parameters of its class over the config's own: `device="cpu"`.

    Raises:
        UsageError: When there is no such model, or its class refuses a parameter.
        ModelLoadError: When it cannot be loaded.
    """
    model = _model(name, model_params)
    if limits is not None:
        model.limits = limits
    load_weights(model)
    return model


def _model(model: str | VLMModel | ModelDeploymentConfig, params: Mapping[str, Any] | None) -> VLMModel:
    if isinstance(model, VLMModel):
        if params:
            raise UsageError("model_params goes with a model's name.", hint="Give them to the model itself.")
        return model
    config = resolve_model(model, load_catalog()) if isinstance(model, str) else model
    if params:
        config = config.model_copy(update={"model_params": {**config.model_params, **params}})
    return create_model(config)


def _settings(values: Mapping[str, Any]) -> GenerationSettings:
    try:
        return GenerationSettings(**values)
    except ValidationError as error:
        problem = first_problem(error)
        raise UsageError(
            f"generate: {problem.message('setting')}", hint=problem.hint(list(SETTINGS))
        ) from error


def _named(inputs: Inputs) -> list[str] | None:
    """The inputs by their names; None where they are objects."""
    if isinstance(inputs, (str, Path)):
        return [str(inputs)]
    if isinstance(inputs, Sequence) and all(isinstance(name, (str, Path)) for name in inputs):
        return [str(name) for name in inputs]
    return None


def _source(inputs: Inputs, template: Template | None, recursive: bool) -> Source:
    if (names := _named(inputs)) is not None:
        return open_source(names, template, recursive=recursive)
    if template is not None:
        raise UsageError("a prompt goes with files, folders and tables; these inputs bring their own.")
    assert not isinstance(inputs, (str, Path)), "these have names"
    return Source(None, None, "inputs", open_objects(inputs), "inputs")
