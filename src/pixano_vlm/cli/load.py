"""`pixano-vlm load`: fetches and loads one model, and prints what it is."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pixano_vlm.catalog import create_model
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
from pixano_vlm.cli.show_prompt import print_prompt, prompt_of, read_record
from pixano_vlm.cli.tables import print_facts
from pixano_vlm.cli.verbosity import set_verbosity
from pixano_vlm.errors import UsageError
from pixano_vlm.models.vlm import VLMModel

__all__ = ["load", "static_batches"]


def load(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A name that `list` shows, a Hugging Face id, or a local folder.",
            autocompletion=complete_model,
        ),
    ],
    config: Config = None,
    plugin: Plugin = None,
    device: Device = None,
    dtype: Dtype = None,
    adapter: Adapter = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            metavar="",
            help="Also check that prompts, answers in a batch and their text are those of transformers alone.",
        ),
    ] = False,
    show_prompt: Annotated[
        Path | None,
        typer.Option(
            "--show-prompt",
            metavar="RECORD",
            help="Also print the exact prompt and token ids for the record in this JSON file.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object.")] = False,
    verbose: Verbose = False,
    traceback: Traceback = False,
) -> None:
    """Fetch and load a model, then print what it is.

    Exits with 1 when --verify finds a difference, or nothing to compare.
    """
    from pixano_vlm.runs.model import load_weights

    set_verbosity(verbose=verbose)
    chosen = choose_model(model, config, plugin, device=device, dtype=dtype, adapter=adapter)
    instance = create_model(chosen)
    if verify and not hasattr(instance, "verify"):
        raise UsageError(f"the class of model {model!r}, {chosen.model_class}, has no --verify.")
    record = None if show_prompt is None else read_record(show_prompt, chosen)
    start = time.perf_counter()
    load_weights(instance)
    facts: dict[str, Any] = {"name": chosen.name, **instance.describe()}
    facts.setdefault("load_seconds", round(time.perf_counter() - start, 3))
    if notice := static_batches(instance):
        sys.stderr.write(f"{notice}\n")
    for warning in instance.notices():
        sys.stderr.write(f"warning: {warning}.\n")
    shown = None if record is None else prompt_of(instance, record)
    report = instance.verify() if verify else None  # type: ignore[attr-defined]  # looked for above
    _print(facts, report, shown, as_json=as_json)
    instance.unload()
    if report is not None and not report.ok:
        raise typer.Exit(1)


def _print(facts: dict[str, Any], report: Any, shown: dict[str, Any] | None, *, as_json: bool) -> None:
    if as_json:
        whole = facts | ({} if shown is None else shown)
        whole |= {} if report is None else {"verify": report.to_dict()}
        json.dump(whole, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    _print_table(facts, str(facts["name"]))
    if report is not None:
        sys.stdout.write("\n")
        _print_table(report.to_dict(), "batched answers against single ones")
    if shown is not None:
        print_prompt(shown)


def _print_table(facts: dict[str, Any], title: str) -> None:
    print_facts({name.replace("_", " "): value for name, value in facts.items()}, title=title)


def static_batches(model: VLMModel) -> str | None:
    """One line that says that a loaded model runs in static batches, and why; None where it does not.

    They are as exact, and slower: records wait for others of the same shape, and for the longest of their batch.
    """
    facts = model.describe()
    if facts.get("continuous_batching", True):
        return None
    return f"{model.model_name} runs in static batches, slower than continuous ones: {facts.get('engine_reason')}"
