"""Flags that more than one command takes, each with its help, said once."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from pixano_vlm.catalog import load_catalog, load_plugin, resolve_model
from pixano_vlm.errors import PixanoVLMError, UsageError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.registry import CLASSES

__all__ = [
    "Adapter",
    "Config",
    "Device",
    "Dtype",
    "Plugin",
    "Traceback",
    "Verbose",
    "choose_model",
    "complete_model",
    "complete_output",
    "given_text",
    "registered_as",
]


DEVICES = {
    "auto": "a GPU where there is one, else the CPU",
    "cpu": "the processor",
    "cuda": "the first NVIDIA GPU",
    "cuda:1": "the second NVIDIA GPU",
    "mps": "an Apple GPU",
}
OUTPUTS = (".jsonl", ".csv", ".parquet", "/")
"""How the names of outputs end, and of folders."""


class DtypeChoice(str, Enum):
    """What `--dtype` admits."""

    auto = "auto"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


def complete_model(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """For a shell's completion: the registered models whose names begin so, each with what it is."""
    try:
        # Not yet paths, in typer before 0.29.
        catalog = load_catalog([Path(config) for config in context.params.get("config") or []])
    except PixanoVLMError:  # the command itself will tell
        catalog = load_catalog()
    return [(model.name, model.description) for model in catalog if model.name.startswith(incomplete)]


def complete_device(incomplete: str) -> list[tuple[str, str]]:
    """For a shell's completion: where a model may run."""
    return [(name, what) for name, what in DEVICES.items() if name.startswith(incomplete)]


def complete_output(incomplete: str) -> list[str]:
    """For a shell's completion: outputs, and the folders where some may be."""
    head, _, start = incomplete.rpartition("/")
    folder = Path(f"{head}/" if head or incomplete.startswith("/") else ".")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [f"{path.name}/" if path.is_dir() else path.name for path in found]
    prefix = incomplete[: len(incomplete) - len(start)]
    return [
        prefix + name
        for name in names
        if name.startswith(start) and (name.endswith(OUTPUTS)) and (start or not name.startswith("."))
    ]


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
        help="Where the model runs: cpu, cuda, cuda:1, mps, auto (a GPU where there is one). Default: the model's "
        "config, else auto.",
        autocompletion=complete_device,
    ),
]
Dtype = Annotated[
    DtypeChoice | None,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="The weights' type: auto (the checkpoint's own), float32, float16, bfloat16. Default: the model's "
        "config, else auto.",
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="PATH",
        help="A LoRA adapter over the model's weights: the folder that peft saved, or its Hugging Face id.",
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
    name: str | None,
    config: list[Path] | None,
    plugin: list[str] | None,
    *,
    served: ModelDeploymentConfig | None = None,
    **params: Any,
) -> ModelDeploymentConfig:
    """The model that the flags ask for; each of `params` that is not `None` goes over the config's own.

    Args:
        name: What is looked for in the catalog; None only where `served` is given.
        config: YAML files with more models.
        plugin: Files and modules with more classes.
        served: A model behind a server, instead.
        params: Parameters of its class.

    Raises:
        UsageError: When a plugin, a config file or the name is wrong, or the model's class has no adapters.
    """
    for spec in plugin or []:
        load_plugin(spec)
    model = served
    if model is None:
        assert name is not None
        model = resolve_model(name, load_catalog(config or []))
    given = {
        key: value.value if isinstance(value, Enum) else value
        for key, value in params.items()
        if value is not None
    }
    for param in given:
        _require(param, model)
    return model.model_copy(update={"model_params": {**model.model_params, **given}})


def given_text(flag: str, text: str | None) -> str | None:
    """The text of a flag.

    Raises:
        UsageError: When it holds no visible character.
    """
    if text is not None and not text.strip():
        raise UsageError(f"{flag}: the text is empty.", hint="Write it, or leave the flag out.")
    return text


def registered_as(name: str, given: Collection[str], config: list[Path] | None) -> str | None:
    """Of a Hugging Face id that a registered model runs with other defaults: which, and what differs.

    Args:
        name: What `--model` says.
        given: The settings that flags give: these do not differ.
        config: Further config files.
    """
    catalog = load_catalog(config or [])
    if catalog.get(name) is not None:
        return None
    for model in catalog:
        own = model.generation.model_dump(exclude_none=True)
        differing = [key for key in own if key not in given]
        if model.model_params.get("path") == name and differing:
            what = ", ".join(f"{key} {own[key]}" for key in differing)
            return f"{name} is also the registered model {model.name}, whose defaults are: {what}"
    return None


def _require(param: str, model: ModelDeploymentConfig) -> None:
    """Refuses a flag for a class that has no such parameter.

    A class says what it takes in `params_class`, a pydantic model. Of one that does not say, only an adapter is
    refused: whether it reads the others is seen when it has answered.
    """
    fields = getattr(getattr(CLASSES.get(model.model_class), "params_class", None), "model_fields", None)
    if param in (fields or ()):
        return
    if param == "adapter":
        raise UsageError(
            f"--adapter: the class of model {model.name!r}, {model.model_class}, puts no adapter on a model.",
            hint="Leave it out and serve or save the model with the adapter merged; or run the checkpoint by its "
            "Hugging Face id or folder, through TransformersVLMModel.",
        )
    if fields is not None:
        raise UsageError(
            f"--{param.replace('_', '-')}: the class of model {model.name!r}, {model.model_class}, has no such "
            "parameter.",
            hint=f"Leave it out. Its parameters are {', '.join(fields)}.",
        )
