"""Where a model's weights are: what its path means, and whether they are on this machine.

Knows folders and the Hugging Face cache's layout. Asks neither the hub nor transformers.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ConfigError
from pixano_vlm.models.deployment import ModelDeploymentConfig

__all__ = ["resolve_path", "weights_on_disk"]

PACKAGE_PATH = "package:"
"""What a path inside an installed Python package starts with: `package:pixano_vlm.shapes/model`."""

REMOTE_CLASSES = {"OpenAIVLMModel"}
"""Classes whose `path` is a name on a server: their weights are never on this machine's account."""


def resolve_path(path: str) -> str:
    """A model's path as `from_pretrained` takes it: `package:` ones become folders, all others stay.

    Raises:
        ConfigError: When the package is not installed or has no such folder.
    """
    if not path.startswith(PACKAGE_PATH):
        return path
    package, _, inside = path.removeprefix(PACKAGE_PATH).partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"{path}: there is no installed package {package!r}.")
    folder = Path(spec.submodule_search_locations[0], inside)
    if not folder.is_dir():
        raise ConfigError(f"{path}: the package {package!r} has no folder {inside!r}.")
    return str(folder)


def weights_on_disk(config: ModelDeploymentConfig) -> bool | None:
    """Whether the model's weights, and those of its adapter, are on this machine.

    `None` where the class names no path to them.

    Reads folders only: neither the hub nor transformers is asked.
    """
    path = config.model_params.get("path")
    if not isinstance(path, str) or config.model_class in REMOTE_CLASSES:
        return None
    try:
        path = resolve_path(path)
    except ConfigError:
        return False
    adapter = config.model_params.get("adapter")
    # An adapter has no revision of its own: the hub's main one is taken.
    rest = {"cache_dir": config.model_params.get("cache_dir")}
    return _is_here(path, config.model_params) and (not isinstance(adapter, str) or _is_here(adapter, rest))


def _is_here(path: str, params: dict[str, Any]) -> bool:
    """Whether a folder, or what the cache has of a Hugging Face id, holds weights."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return _complete(folder)
    snapshot = _snapshot(path, params)
    return snapshot is not None and _complete(snapshot)


def _snapshot(hub_id: str, params: dict[str, Any]) -> Path | None:
    """The folder of `hub_id` in the Hugging Face cache: models--owner--name/snapshots/<commit>."""
    if params.get("cache_dir") is not None:
        cache = Path(params["cache_dir"])
    else:
        # Importing the constants alone takes 15 ms; try_to_load_from_cache, the public way, takes 200.
        from huggingface_hub import constants

        cache = Path(constants.HF_HUB_CACHE)
    repository = cache.expanduser() / ("models--" + hub_id.replace("/", "--"))
    revision = str(params.get("revision") or "main")
    reference = repository / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _complete(folder: Path) -> bool:
    """Whether a checkpoint folder has its weights, every shard of them."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    shards = set(re.findall(r'"([^"/\\]+\.safetensors)"', index.read_text(encoding="utf-8")))
    return bool(shards) and all((folder / shard).is_file() for shard in shards)
