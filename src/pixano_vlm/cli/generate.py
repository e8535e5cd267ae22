"""`pixano-vlm generate`: the flags of a run. What is done with them stands in `batch.py`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pixano_vlm.cli.json_schema import check_settings, read_json_schema
from pixano_vlm.cli.noise import set_noise
from pixano_vlm.cli.options import (
    Adapter,
    Config,
    Device,
    Dtype,
    Plugin,
    Traceback,
    Verbose,
    choose_model,
    complete_model,
)
from pixano_vlm.cli.ray import GpusPerWorker, Ray, Workers, choose_pool
from pixano_vlm.cli.run import Batch, run_batch
from pixano_vlm.errors import UsageError
from pixano_vlm.inputs.open import open_source, read_template
from pixano_vlm.models.generation import DEFAULT_GENERATION, GenerationSettings
from pixano_vlm.models.limits import Limits
from pixano_vlm.outputs.exports import split_outputs

__all__ = ["generate"]

GENERATION = "How to generate (a manifest line's own values win over these)"
LIMITS = "What a record may open, and how large it may be"
OUTPUT = "Output"
PICTURES = "A folder, pictures or a table without prompts"
STANDARD = Limits()


class Sidecar(str, Enum):
    """What `--sidecar` admits."""

    txt = "txt"
    json = "json"


def generate(
    context: typer.Context,
    manifest: Annotated[
        list[str],
        typer.Argument(
            metavar="MANIFEST",
            help="What to run: a JSONL, CSV, Parquet or OpenAI Batch file, - for JSONL from standard input; or, "
            "with --prompt, a folder, a glob or pictures.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="A name that `list` shows, a Hugging Face id, or a local folder.",
            autocompletion=complete_model,
        ),
    ],
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help="What to ask about each picture or row. {name}, {stem}, {folder} and the fields of a folder's "
            "metadata.jsonl, or a table's columns, are filled in.",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompt-file",
            metavar="FILE",
            help="The same, from a text file.",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive",
            metavar="",
            help="Also the pictures of the folders below.",
            rich_help_panel=PICTURES,
        ),
    ] = False,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Where the answers go, one line a record; - is standard output. Default: "
            "<the manifest's stem>.outputs.jsonl in the current folder. Repeat it with a name that ends with .csv, "
            ".parquet or .openai.jsonl to have them in that form, too.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    sidecar: Annotated[
        Sidecar | None,
        typer.Option(
            "--sidecar",
            metavar="KIND",
            help="Also write each answer beside its picture: txt (a.txt beside a.jpg) or json. Goes on with an "
            "output that exists; a picture that has its file counts as done.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            metavar="",
            help="Check every record and image, count tokens, time a few records, estimate the rest; write nothing.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", metavar="", help="Go on with an output that exists.", rich_help_panel=OUTPUT
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            metavar="",
            help="Go on with an output that exists, and do its failed records again.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    retry_flagged: Annotated[
        bool,
        typer.Option(
            "--retry-flagged",
            metavar="",
            help="Ask once more, with other settings, where an answer is cut off, empty, loops or is not the JSON "
            "asked for; and go on with an output that exists.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", metavar="", help="Replace an output that exists.", rich_help_panel=OUTPUT
        ),
    ] = False,
    summary_json: Annotated[
        Path | None,
        typer.Option(
            "--summary-json",
            metavar="PATH",
            help="Also write the summary as JSON to this file.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only the manifest's first N records.")
    ] = None,
    config: Config = None,
    plugin: Plugin = None,
    device: Device = None,
    dtype: Dtype = None,
    adapter: Adapter = None,
    max_batch_size: Annotated[
        int | None,
        typer.Option("--max-batch-size", metavar="N", min=1, help="Most records in the model at a time."),
    ] = None,
    ray: Ray = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens",
            metavar="N",
            min=1,
            help=f"Most new tokens a record. Default: the model's config, else "
            f"{DEFAULT_GENERATION.max_new_tokens}.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            metavar="T",
            min=0.0,
            help=f"0 is greedy. Default: the model's config, else {DEFAULT_GENERATION.temperature}.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            metavar="P",
            help="Sample from the likeliest tokens that sum to this probability.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k", metavar="K", help="Sample from this many likeliest tokens.", rich_help_panel=GENERATION
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            "--min-p",
            metavar="P",
            help="Drop tokens below this share of the likeliest one's probability.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            "--repetition-penalty",
            metavar="R",
            help="Above 1: make tokens that were there before less likely.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop",
            metavar="TEXT",
            help="End an answer before this text. Repeatable.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    json_schema: Annotated[
        str | None,
        typer.Option(
            "--json-schema",
            metavar="SCHEMA",
            help="Answer in JSON that follows this schema: a JSON Schema file, a Pydantic class (FILE.py:CLASS), or "
            "the schema itself.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            help="The run's seed: every sampled record derives its own from it and its id. Default: 0.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    image_root: Annotated[
        Path | None,
        typer.Option(
            "--image-root",
            metavar="DIR",
            help="Image paths must lie in this folder, symbolic links followed.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    no_urls: Annotated[
        bool, typer.Option("--no-urls", metavar="", help="Fetch no image from a URL.", rich_help_panel=LIMITS)
    ] = False,
    allow_private_urls: Annotated[
        bool,
        typer.Option(
            "--allow-private-urls",
            metavar="",
            help="Also fetch from this machine and from private networks.",
            rich_help_panel=LIMITS,
        ),
    ] = False,
    max_image_pixels: Annotated[
        int,
        typer.Option(
            "--max-image-pixels", metavar="N", min=1, help="Largest image, in pixels.", rich_help_panel=LIMITS
        ),
    ] = STANDARD.max_image_pixels,
    max_image_bytes: Annotated[
        int,
        typer.Option(
            "--max-image-bytes",
            metavar="N",
            min=1,
            help="Largest image file, in bytes.",
            rich_help_panel=LIMITS,
        ),
    ] = STANDARD.max_image_bytes,
    max_prompt_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-prompt-tokens",
            metavar="N",
            min=1,
            help="Longest prompt, image tokens included; a longer one fails, none is cut. Default: what the "
            "model takes.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", metavar="", help="No progress and no summary, errors only.")
    ] = False,
    verbose: Verbose = False,
    traceback: Traceback = False,
) -> None:
    """Run every record of a manifest, or every picture of a folder, through a model.

    A record is one JSON object a line: {"prompt": "What is this?", "images": ["a.jpg"]}. Its answer is one
    line of the output, in the manifest's order; a record that fails gets a line that says why.

    Exits with 0 when all records are ok, 1 when some failed, 2 on wrong use, 3 when the model could not be
    loaded or the run could not go on, 130 when interrupted.
    """
    set_noise(verbose=verbose, quiet=quiet)
    chosen = choose_model(
        model, config, plugin, device=device, dtype=dtype, adapter=adapter, max_batch_size=max_batch_size
    )
    flags = _settings(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop=stop or None,
        response_format=None if json_schema is None else read_json_schema(json_schema),
    )
    settings = check_settings(
        flags.over(chosen.generation).over(DEFAULT_GENERATION),
        f"model {model}: generation.response_format"
        if json_schema is None
        else f"--json-schema {json_schema}",
    )
    template = read_template(prompt, prompt_file)
    source = open_source(manifest, template, recursive=recursive)
    path, exports = split_outputs(output or [], Path(source.stem + ".outputs.jsonl"))
    pool = choose_pool(ray, workers, gpus_per_worker)
    batch = Batch(
        source=source,
        output=path,
        model=chosen,
        pool=pool,
        settings=settings,
        run_seed=seed,
        limits=Limits(
            image_root=image_root,
            allow_urls=not no_urls,
            allow_private_hosts=allow_private_urls,
            max_image_pixels=max_image_pixels,
            max_image_bytes=max_image_bytes,
            max_prompt_tokens=max_prompt_tokens,
        ),
        limit=limit,
        resume=resume
        or retry_failed
        or ((retry_flagged or sidecar is not None) and not overwrite and path is not None),
        retry_failed=retry_failed,
        retry_flagged=retry_flagged,
        overwrite=overwrite and not (sidecar is not None and resume),
        dry_run=dry_run,
        exports=exports,
        sidecar=None if sidecar is None else sidecar.value,
        sidecar_overwrite=overwrite,
        summary_json=summary_json,
        quiet=quiet,
        asked={
            "manifest": manifest,
            "prompt": None if template is None else template.text,
            "prompt_file": prompt_file,
            "recursive": recursive or None,
        },
        command=tuple(context.obj or ()),
    )
    if code := run_batch(batch):
        raise typer.Exit(code)


def _settings(**flags: Any) -> GenerationSettings:
    try:
        return GenerationSettings(**flags)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        flag = "--" + str(problem["loc"][0]).replace("_", "-")
        text = str(problem["msg"])
        raise UsageError(f"{flag} {problem['input']}: {text[:1].lower()}{text[1:]}.") from error
