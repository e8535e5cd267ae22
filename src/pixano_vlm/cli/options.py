"""Flags that more than one command takes, each with its help, said once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from pixano_vlm.catalog import load_catalog, load_plugin, resolve_model
from pixano_vlm.models.config import ModelDeploymentConfig

__all__ = ["Config", "Device", "Dtype", "Plugin", "Traceback", "Verbose", "choose_model"]


class DtypeChoice(str, Enum):
    """What `--dtype` admits."""

    auto = "auto"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


Config = Annotated[
    list[Path] | None,
    typer.Option(
        "--config", metavar="PATH", help="A YAML file, or folder of them, with more models. Repeatable."
    ),
]
Plugin = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="PATH",
        help="A Python file or module whose import registers model classes. Repeatable.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Where the model runs: cpu, cuda, cuda:1, mps, auto (a GPU where there is one).",
    ),
]
Dtype = Annotated[
    DtypeChoice | None,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="The weights' type: auto (the checkpoint's own), float32, float16, bfloat16.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", metavar="", help="Show the warnings and log lines of the libraries underneath."
    ),
]
Traceback = Annotated[
    bool,
    typer.Option(
        "--traceback", metavar="", help="On an error, show Python's traceback (also: PIXANO_VLM_TRACEBACK=1)."
    ),
]


def choose_model(
    name: str,
    config: list[Path] | None,
    plugin: list[str] | None,
    **params: Any,
) -> ModelDeploymentConfig:
    """The model that the flags ask for; each of `params` that is not `None` goes over the config's own.

    Raises:
        UsageError: When a plugin, a config file or the name is wrong.
    """
    for spec in plugin or []:
        load_plugin(spec)
    model = resolve_model(name, load_catalog(config or []))
    given = {
        key: value.value if isinstance(value, Enum) else value
        for key, value in params.items()
        if value is not None
    }
    return model.model_copy(update={"model_params": {**model.model_params, **given}})
