"""`pixano-vlm list`: every model that a name stands for. Imports neither torch nor transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any

import typer

from pixano_vlm.catalog import load_catalog, load_plugin, weights_on_disk
from pixano_vlm.cli.options import Config, Plugin, Traceback
from pixano_vlm.cli.tables import draw_groups, print_table
from pixano_vlm.errors import UsageError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.registry import BUILT_IN_CLASSES, CLASSES, ModelRegistry
from pixano_vlm.nearest import nearest

__all__ = ["list_models"]

ON_DISK = {True: "yes", False: "no", None: "-"}


def list_models(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD",
            help="Only the models with each of these in their name, path, architecture or description.",
        ),
    ] = None,
    config: Config = None,
    plugin: Plugin = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print JSON: a list with one object per model.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """List the registered models: what each is good for, its memory, its license, and whether its weights are here.

    Memory is that of the weights in bfloat16, two bytes per parameter; images and answers take more. A gated model is
    handed out to accounts that agreed to its terms on its page. Any other model runs by its Hugging Face id
    (owner/name) or its local folder.
    """
    for spec in plugin or []:
        load_plugin(spec)
    catalog = load_catalog(config or [])
    models = list(catalog)
    # A class of a plugin or an installed package runs under its own name, unless a model has that name.
    classes = [name for name in CLASSES.names() if name not in BUILT_IN_CLASSES and catalog.get(name) is None]
    models += [
        ModelDeploymentConfig(name=name, model_class=name, description="a model class") for name in classes
    ]
    chosen = [model for model in models if _matches(model, words or [])]
    if not chosen:
        raise _nothing(words or [], models)
    if as_json:
        json.dump([_facts(model) for model in chosen], sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    elif sys.stdout.isatty():
        _show(chosen, catalog)
    else:
        _print(chosen)


def _matches(model: ModelDeploymentConfig, words: Sequence[str]) -> bool:
    path = str(model.model_params.get("path") or "")
    text = "\n".join((model.name, path, model.architecture, model.description)).lower()
    return all(word.lower() in text for word in words)


def _nothing(words: Sequence[str], models: Sequence[ModelDeploymentConfig]) -> UsageError:
    names = [model.name for model in models]
    close = (
        nearest(words[0], [*names, *(name.partition("-")[0] for name in names)]) if len(words) == 1 else []
    )
    near = f"Did you mean {close[0]!r}?" if close else ""
    return UsageError(
        f"no registered model matches {' '.join(map(repr, words))}.",
        hint=f"{near} `pixano-vlm list` shows them all; any Hugging Face id (owner/name) runs as it is.".strip(),
    )


def _show(models: Sequence[ModelDeploymentConfig], catalog: ModelRegistry) -> None:
    """For people: families in groups, without the columns that only programs need."""

    def file(model: ModelDeploymentConfig) -> str:
        return catalog.source(model.name).rpartition(":")[0] if catalog.get(model.name) else ""

    groups = [
        [
            (
                model.name,
                _gigabytes(model.memory_gb),
                ON_DISK[weights_on_disk(model)],
                _license(model),
                model.description,
            )
            for model in group
        ]
        for _, group in groupby(models, key=file)
    ]
    draw_groups(("name", "memory", "here", "license", "what it is good for"), groups)


def _print(models: Sequence[ModelDeploymentConfig]) -> None:
    """For programs: one line per model, every column."""
    facts = map(_facts, models)
    rows = [
        (
            fact["name"],
            fact["model_class"],
            fact["path"] or "-",
            _gigabytes(fact["memory_gb"]),
            ON_DISK[fact["on_disk"]],
            f"{fact['license'] or '-'}{', gated' if fact['gated'] else ''}",
            fact["description"],
        )
        for fact in facts
    ]
    print_table(("name", "class", "path", "memory", "on disk", "license", "what it is"), rows)


def _license(model: ModelDeploymentConfig) -> str:
    return f"{model.license or '-'}{', gated' if model.gated else ''}"


def _gigabytes(memory: float | None) -> str:
    if memory is None:
        return "-"
    if memory < 0.1:
        return f"{memory * 1000:.0f} MB"
    return f"{memory:.2g} GB" if memory < 10 else f"{memory:.0f} GB"


def _facts(model: ModelDeploymentConfig) -> dict[str, Any]:
    path = model.model_params.get("path")
    return {
        "name": model.name,
        "model_class": model.model_class,
        "path": None if path is None else str(path),
        "architecture": model.architecture or None,
        "parameters": model.parameters,
        "memory_gb": model.memory_gb,
        "license": model.license or None,
        "gated": model.gated,
        "on_disk": weights_on_disk(model),
        "description": model.description,
        "generation": model.generation.model_dump(exclude_none=True),
    }
