"""A name into a model: the catalog of registered models, what a name stands for in it, and its class made.

Loads no weights and imports no torch: a class's module is imported only when `create_model` asks for it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from pixano_vlm.catalog.config_files import read_config
from pixano_vlm.catalog.weights import resolve_path
from pixano_vlm.errors import ConfigError, PixanoVLMError, UnknownModelError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.fault import raised
from pixano_vlm.models.noted import NotedParameters
from pixano_vlm.models.region import RegionConvention
from pixano_vlm.models.registry import BUILT_IN_CLASSES, CLASSES, ModelRegistry
from pixano_vlm.models.vlm import VLMModel
from pixano_vlm.nearest import nearest
from pixano_vlm.validation import first_problem

__all__ = ["built_in_configs", "create_model", "load_catalog", "resolve_model", "user_configs"]

CONFIG_VARIABLE = "PIXANO_VLM_CONFIG"
"""The environment variable that names config files to be read always."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""What a Hugging Face id looks like: an owner, a slash, a name."""


def built_in_configs() -> Path:
    """The folder of the config files that come with this package."""
    packaged = Path(__file__).parents[1] / "configs"
    # An editable install has no copy inside the package: the repository's own folder is the one to read.
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"


def user_configs() -> list[Path]:
    """The config files and folders that are read without being named in a call.

    Those of the environment variable PIXANO_VLM_CONFIG, separated as in PATH; where it is not set, the folder
    `pixano-vlm` in the user's configuration folder (XDG_CONFIG_HOME, else ~/.config), if it holds any.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named is not None:
        return [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    with suppress(RuntimeError):  # a user without a home
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "pixano-vlm"
        return [folder] if folder.is_dir() and any(map(_is_config, folder.iterdir())) else []
    return []


def load_catalog(config_paths: Sequence[Path] = ()) -> ModelRegistry:
    """Every registered model: the built-in ones, the user's, then those of `config_paths`.

    Args:
        config_paths: YAML files or folders of them.

    Raises:
        ConfigError: When a file is missing or wrong; the message names the file, the line and the key.
        DuplicateModelError: When two entries claim one name.
    """
    catalog = ModelRegistry()
    seen = set()  # a file that is named twice is read once
    for folder_or_file in (built_in_configs(), *user_configs(), *config_paths):
        for file in _config_files(folder_or_file):
            if (resolved := file.resolve()) in seen:
                continue
            seen.add(resolved)
            for line, config in read_config(file):
                catalog.add(config, f"{file}:{line}")
    return catalog


def _config_files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(filter(_is_config, path.iterdir()))
    if not files:
        raise ConfigError(f"the folder {path} holds no config file (*.yaml).")
    return files


def _is_config(file: Path) -> bool:
    return file.suffix in {".yaml", ".yml"}


def resolve_model(name: str, catalog: ModelRegistry) -> ModelDeploymentConfig:
    """What to run under `name`: a registered model, else a registered class, a local folder, or a hub id.

    Raises:
        UnknownModelError: When it is none of these; it names the nearest and says how to register one.
    """
    if (config := catalog.get(name)) is not None:
        return config
    if name in CLASSES.names() and name not in BUILT_IN_CLASSES:
        return ModelDeploymentConfig(name=name, model_class=name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UnknownModelError(
                f"the folder {name} is not a checkpoint: it holds no config.json.",
                hint="Name the folder that save_pretrained wrote, or a model that `pixano-vlm list` shows.",
            )
        regions = _regions_of(catalog, architecture=_architecture(folder))
        return ModelDeploymentConfig(name=name, model_params={"path": str(folder)}, regions=regions)
    if HUB_ID.fullmatch(name):
        regions = _regions_of(catalog, path=name)
        return ModelDeploymentConfig(name=name, model_params={"path": name}, regions=regions)
    raise _unknown(name, catalog)


def _regions_of(
    catalog: ModelRegistry, *, path: str | None = None, architecture: str | None = None
) -> RegionConvention | None:
    """How a checkpoint writes coordinates: as registered models of its id or architecture do, where they agree."""
    found = {
        config.regions
        for config in catalog
        if (path is not None and config.model_params.get("path") == path)
        or (architecture is not None and config.architecture == architecture)
    }
    return found.pop() if len(found) == 1 else None


def _architecture(folder: Path) -> str | None:
    """The `model_type` of a checkpoint's config."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):  # loading it will say what is wrong
        return None
    return kind if isinstance(kind, str) else None


def _unknown(name: str, catalog: ModelRegistry) -> UnknownModelError:
    known = {*catalog.names(), *CLASSES.names()} - set(BUILT_IN_CLASSES)
    close = nearest(name, known)
    if Path(name).is_absolute() or name.startswith((".", "~")):
        what = f"there is no folder {name}"
    else:
        what = f"there is no model {name!r}"
    meant = f"; near it: {', '.join(close)}" if close else ""
    return UnknownModelError(
        f"{what}{meant}.",
        hint="`pixano-vlm list` shows the registered ones; a Hugging Face id (owner/name) or a local folder "
        "runs as it is; --config FILE registers more models, --plugin FILE a class of your own.",
    )


def create_model(config: ModelDeploymentConfig) -> VLMModel:
    """An instance of the config's class, its weights not loaded yet.

    Raises:
        UnknownModelError: When no such class is registered.
        ConfigError: When the class is not a `VLMModel`, or refuses its parameters.
        PluginError: When importing the class fails.
    """
    cls = CLASSES.get(config.model_class)
    if not issubclass(cls, VLMModel):
        raise ConfigError(
            f"model {config.name!r}: class {config.model_class!r} is not a vision-language model."
        )
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise ConfigError(
            f"model {config.name!r}: class {cls.__name__} has no method {' and no method '.join(missing)}.",
            hint="A model class has load_model(self) and predict(self, input).",
        )
    params = dict(config.model_params)
    if isinstance(path := params.get("path"), str):
        params["path"] = resolve_path(path)
    config = config.model_copy(update={"model_params": NotedParameters(params)})
    try:
        return cls(config)
    except PixanoVLMError:
        raise
    except ValidationError as error:
        raise _refused(config, cls, error) from error
    # A model class is someone else's code: it may raise anything.
    except Exception as error:
        raise ConfigError(
            f"model {config.name!r}: {cls.__name__} cannot be created: {raised(error, cls)}.",
            hint="--traceback shows the calls that led there.",
        ) from error


def _refused(config: ModelDeploymentConfig, cls: type, error: ValidationError) -> ConfigError:
    """A class's complaint about its parameters, with the nearest parameter that it does take.

    A class says what it takes in `params_class`, a pydantic model.
    """
    known = list(getattr(getattr(cls, "params_class", None), "model_fields", {}))
    problem = first_problem(error)
    return ConfigError(
        f"model {config.name!r} ({config.model_class}): {problem.message('parameter')}",
        hint=problem.hint(known),
    )
