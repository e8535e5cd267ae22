"""`pixano-vlm list`: every model that a name stands for. Imports neither torch nor transformers."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from pixano_vlm.catalog import load_catalog, load_plugin, weights_on_disk
from pixano_vlm.cli.options import Config, Plugin, Traceback
from pixano_vlm.cli.tables import print_table
from pixano_vlm.models.config import ModelDeploymentConfig
from pixano_vlm.models.registry import BUILT_IN_CLASSES, CLASSES

__all__ = ["list_models"]

ON_DISK = {True: "yes", False: "no", None: "-"}


def list_models(
    config: Config = None,
    plugin: Plugin = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print JSON: a list with one object a model.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """List the registered models, and which of them have their weights on this machine.

    Any other model runs by its Hugging Face id (owner/name) or its local folder.
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
    if as_json:
        json.dump([_facts(model) for model in models], sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    rows = [
        (
            facts["name"],
            facts["model_class"],
            facts["path"] or "-",
            ON_DISK[facts["on_disk"]],
            facts["description"],
        )
        for facts in map(_facts, models)
    ]
    print_table(("name", "class", "path", "on disk", "what it is"), rows)


def _facts(model: ModelDeploymentConfig) -> dict[str, Any]:
    path = model.model_params.get("path")
    return {
        "name": model.name,
        "model_class": model.model_class,
        "path": None if path is None else str(path),
        "architecture": model.architecture or None,
        "on_disk": weights_on_disk(model),
        "description": model.description,
        "generation": model.generation.model_dump(exclude_none=True),
    }
