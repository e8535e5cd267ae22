"""`pixano-vlm generate`: from its flags to a run. What each flag means is in `flags.py`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from pixano_vlm.catalog import create_model
from pixano_vlm.cli import flags
from pixano_vlm.cli.choices import read_choices
from pixano_vlm.cli.json_schema import check_settings, read_schema_flags
from pixano_vlm.cli.options import (
    Adapter,
    Config,
    Device,
    Dtype,
    Plugin,
    Traceback,
    Verbose,
    choose_model,
    given_text,
    registered_as,
)
from pixano_vlm.cli.ray import GpusPerWorker, Ray, Workers, choose_pool
from pixano_vlm.cli.server import ApiKeyEnv, BaseUrl, ServerModel, choose_server
from pixano_vlm.cli.setting_flags import with_setting_flags
from pixano_vlm.cli.template_variables import read_variables
from pixano_vlm.cli.verbosity import hide_bars, set_verbosity
from pixano_vlm.errors import UsageError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.generation import SETTINGS, GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.validation import first_problem

__all__ = ["generate", "read_settings"]


@with_setting_flags
def generate(
    context: typer.Context,
    manifest: flags.Manifest,
    model: flags.Model = None,
    prompt: flags.Prompt = None,
    prompt_file: flags.PromptFile = None,
    recursive: flags.Recursive = False,
    image_column: flags.ImageColumn = None,
    prompt_column: flags.PromptColumn = None,
    id_column: flags.IdColumn = None,
    shard: flags.Shard = None,
    system: flags.System = None,
    output: flags.OutputPaths = None,
    shard_size: flags.ShardSize = None,
    sidecar: flags.SidecarFlag = None,
    with_prompt: flags.WithPrompt = False,
    calibration: flags.CalibrationFlag = None,
    dry_run: flags.DryRun = False,
    resume: flags.Resume = False,
    retry_failed: flags.RetryFailed = False,
    retry_flagged: flags.RetryFlagged = False,
    overwrite: flags.Overwrite = False,
    force: flags.Force = False,
    summary_json: flags.SummaryJson = None,
    limit: flags.Limit = None,
    config: Config = None,
    plugin: Plugin = None,
    device: Device = None,
    dtype: Dtype = None,
    adapter: Adapter = None,
    max_batch_size: flags.MaxBatchSize = None,
    base_url: BaseUrl = None,
    server_model: ServerModel = None,
    api_key_env: ApiKeyEnv = None,
    ray: Ray = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    choices_file: flags.ChoicesFile = None,
    flag_below: flags.FlagBelow = None,
    json_schema: flags.JsonSchema = None,
    concise_schema: flags.ConciseSchema = None,
    template_variables: flags.TemplateVariables = None,
    seed: flags.Seed = None,
    image_root: flags.ImageRoot = None,
    pages: flags.PagesFlag = flags.PagesKind.first,
    no_urls: flags.NoUrls = False,
    allow_private_urls: flags.AllowPrivateUrls = False,
    max_image_pixels: flags.MaxImagePixels = flags.STANDARD.max_image_pixels,
    max_image_bytes: flags.MaxImageBytes = flags.STANDARD.max_image_bytes,
    max_prompt_tokens: flags.MaxPromptTokens = None,
    quiet: flags.Quiet = False,
    verbose: Verbose = False,
    traceback: Traceback = False,
    **settings: Any,
) -> None:
    """Run every record of a manifest, or every image of a folder, through a model.

    A record is one JSON object per line: {"prompt": "What is this?", "images": ["a.jpg"]}. Its answer is one
    line of the output, in the manifest's order; a record that fails gets a line that says why.

    Exits with 0 when all records are ok, 1 when some failed, 2 on wrong use, 3 when the model could not be
    loaded or the run could not continue, 130 when interrupted.
    """
    from pixano_vlm.cli.progress import Progress

    set_verbosity(verbose=verbose, quiet=quiet)
    # What follows imports torch: the screen must not stay empty meanwhile.
    with Progress(quiet=quiet) as progress:
        progress.phase("starting")
        from pixano_vlm.cli.run import run
        from pixano_vlm.cli.shown import Shown
        from pixano_vlm.inputs.naming import Naming
        from pixano_vlm.inputs.open import open_source, read_share
        from pixano_vlm.inputs.template import read_template
        from pixano_vlm.outputs.exports import needs_prompt, split_outputs
        from pixano_vlm.records.calibration import read_calibration
        from pixano_vlm.runs.open import OpenOptions, Sidecars
        from pixano_vlm.runs.options import RunOptions

        served = choose_server(base_url, server_model, api_key_env, model, max_batch_size)
        chosen = choose_model(
            model,
            config,
            plugin,
            served=served,
            device=device,
            dtype=dtype,
            adapter=adapter,
            max_batch_size=max_batch_size if served is None else None,
        )
        if template_variables:
            settings["chat_template_kwargs"] = read_variables(template_variables)
        asked = read_settings(settings, chosen, json_schema, concise_schema, choices_file)
        if model is not None and (note := registered_as(model, _asked(context.params), config)):
            progress.say(f"note: {note}.\nhint: --model NAME, with that name, takes them")
        if manifest[0] == "-" and sys.stdin.isatty():
            progress.say("reading records from the terminal, one JSON object per line; Ctrl-D ends them.")
        template = read_template(prompt, prompt_file)
        naming = Naming(tuple(image_column or ()), prompt_column, id_column)
        source = open_source(manifest, template, recursive=recursive, naming=naming, share=read_share(shard))
        path, exports = split_outputs(output or [], Path(source.stem + ".outputs.jsonl"), source.files)
        hide_bars(chosen)
        pool = choose_pool(ray, workers, gpus_per_worker)
        options = RunOptions(
            source=source,
            output=sys.stdout if path is None else path,
            model=create_model(chosen) if pool is None else pool.create(chosen),
            settings=asked,
            least_confidence=flag_below,
            system=given_text("--system", system),
            with_prompt=with_prompt or needs_prompt(exports),
            calibration=None if calibration is None else read_calibration(calibration),
            run_seed=seed,
            limits=Limits(
                image_root=image_root,
                allow_urls=not no_urls,
                allow_private_hosts=allow_private_urls,
                max_image_pixels=max_image_pixels,
                max_image_bytes=max_image_bytes,
                max_prompt_tokens=max_prompt_tokens,
            ),
            opening=OpenOptions(
                resume=resume
                or retry_failed
                or ((retry_flagged or sidecar is not None) and not overwrite and path is not None),
                overwrite=overwrite and not (sidecar is not None and resume),
                force=force,
                retry_failed=retry_failed,
                retry_flagged=retry_flagged,
                limit=limit,
            ),
            pages=pages.value,
            exports=exports,
            shard_size=shard_size,
            sidecars=None if sidecar is None else Sidecars(sidecar.value, overwrite),
            asked={
                "manifest": manifest,
                "prompt": None if template is None else template.text,
                "prompt_file": None if prompt_file is None else str(prompt_file),
                "recursive": recursive or None,
                "image_columns": image_column or None,
                "prompt_column": prompt_column,
                "id_column": id_column,
                "shard": shard,
                "pages": None if pages == flags.PagesKind.first else pages.value,
                "system": system,
            },
            command=tuple(context.obj or ()),
        )
        shown = Shown(quiet=quiet, summary_json=summary_json, asked=_asked(context.params))
        if dry_run:
            from pixano_vlm.cli.dry_run import run_dry

            code = run_dry(options, shown, progress)
        else:
            code = run(options, shown, progress)
    if code:
        raise typer.Exit(code)


def _asked(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the settings and parameters that were given."""
    # The flag `--seed` is the run's; a record's own seed has no flag. A flag that may be repeated is empty, not None.
    names = [*(name for name in SETTINGS if name != "seed"), "device", "dtype", "max_batch_size"]
    asked = [name for name in names if given.get(name) not in (None, (), [])]
    is_schema = any(given.get(name) is not None for name in ("json_schema", "concise_schema"))
    return (*asked, "response_format") if is_schema else tuple(asked)


def read_settings(
    given: Mapping[str, Any],
    model: ModelDeploymentConfig,
    json_schema: str | None,
    concise: str | None = None,
    choices_file: Path | None = None,
) -> GenerationSettings:
    """The settings of the flags over the model's own."""
    values = {name: value for name, value in given.items() if value not in (None, [], ())}
    choices = read_choices(given.get("choices"), choices_file)
    if choices is not None:
        values["choices"] = choices
    response_format, source = read_schema_flags(json_schema, concise)
    if response_format is not None:
        values["response_format"] = response_format
    try:
        asked = GenerationSettings(**values)
    except ValidationError as error:
        problem = first_problem(error)
        raise UsageError(f"--{problem.key.replace('_', '-')} {problem.text}.") from error
    settled = asked.over(model.generation)
    if (settled.n or 1) > 1 and settled.temperature == 0:
        raise UsageError(
            f"--n {settled.n} at temperature 0 gives the same sample {settled.n} times.",
            hint="Leave --n out, or set --temperature above 0, such as 0.7.",
        )
    return check_settings(settled, source or f"model {model.name}: generation.response_format")
