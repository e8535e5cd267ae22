"""Which models there are: reads config files and plugins into the registries, and a name into a model.

    config files ─> ModelRegistry ─> resolve_model(name) ─> ModelDeploymentConfig ─> create_model ─> VLMModel
    plugins ──────> CLASSES ────────────────────────────────────────────────────────┘

Knows YAML, Python files and folders. Runs no model and knows no screen; importing it imports no torch.
"""

from pixano_vlm.catalog.config_files import read_config
from pixano_vlm.catalog.plugins import load_plugin
from pixano_vlm.catalog.resolve import (
    built_in_configs,
    create_model,
    load_catalog,
    resolve_model,
    user_configs,
)
from pixano_vlm.catalog.weights import resolve_path, weights_on_disk

__all__ = [
    "built_in_configs",
    "create_model",
    "load_catalog",
    "load_plugin",
    "read_config",
    "resolve_model",
    "resolve_path",
    "user_configs",
    "weights_on_disk",
]
