"""`pixano-vlm load`: fetches and loads one model, and tells what it is."""

from __future__ import annotations

import json
import sys
import time
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
from pixano_vlm.cli.tables import print_facts
from pixano_vlm.cli.verbosity import set_verbosity
from pixano_vlm.errors import UsageError
from pixano_vlm.models.vlm import VLMModel
from pixano_vlm.runs.model import load_weights

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
            "--verify", metavar="", help="Also check that answers in a batch equal answers one at a time."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object.")] = False,
    verbose: Verbose = False,
    traceback: Traceback = False,
) -> None:
    """Fetch and load a model, then print what it is.

    Exits with 1 when --verify finds tokens that differ.
    """
    set_verbosity(verbose=verbose)
    chosen = choose_model(model, config, plugin, device=device, dtype=dtype, adapter=adapter)
    instance = create_model(chosen)
    if verify and not hasattr(instance, "verify"):
        raise UsageError(f"the class of model {model!r}, {chosen.model_class}, has no --verify.")
    start = time.perf_counter()
    load_weights(instance)
    facts: dict[str, Any] = {"name": chosen.name, **instance.describe()}
    facts.setdefault("load_seconds", round(time.perf_counter() - start, 3))
    if notice := static_batches(instance):
        sys.stderr.write(f"{notice}\n")
    report = instance.verify() if verify else None  # type: ignore[attr-defined]  # looked for above
    _print(facts, report, as_json=as_json)
    instance.unload()
    if report is not None and not report.ok:
        raise typer.Exit(1)


def _print(facts: dict[str, Any], report: Any, *, as_json: bool) -> None:
    if as_json:
        whole = facts if report is None else {**facts, "verify": report.to_dict()}
        json.dump(whole, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    _print_table(facts, str(facts["name"]))
    if report is not None:
        sys.stdout.write("\n")
        _print_table(report.to_dict(), "batched answers against single ones")


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
