"""Names: which class a model class name stands for, and which model a model name stands for.

Two registries of recipes. Nothing heavy is imported until a class is really asked for, so listing costs
nothing. Knows no file: `pixano_vlm.catalog` reads configs and plugins into it.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TypeVar

from pixano_vlm.errors import DuplicateModelError, PluginError, UnknownModelError
from pixano_vlm.models.base import InferenceModel
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.nearest import did_you_mean

ENTRY_POINT_GROUP = "pixano_vlm.models"

BUILT_IN_CLASSES = {
    "TransformersVLMModel": "pixano_vlm.engines.transformers.model",
    "VLLMVLMModel": "pixano_vlm.engines.vllm.model",
    "OpenAIVLMModel": "pixano_vlm.engines.openai.model",
}
"""Class name -> the module whose import registers it."""

ModelClass = TypeVar("ModelClass", bound=type[InferenceModel])


class ClassRegistry:
    """Model class name -> class. Entries are classes, or the modules whose import registers them."""

    def __init__(self, modules: dict[str, str] | None = None, group: str | None = None) -> None:
        self._modules = dict(modules or {})
        self._group = group
        self._classes: dict[str, type[InferenceModel]] = {}

    def register(self, name: str, cls: type[InferenceModel]) -> None:
        """Puts `cls` under `name`.

        Raises:
            DuplicateModelError: When another class has the name. One of the same module and qualified name is not
                another: it takes the place of what it was before, as in a module that is reloaded.
        """
        module = self._modules.get(name)
        if module is not None and cls.__module__ != module:
            raise DuplicateModelError(
                f"model class {name!r} is this package's own ({module}).",
                hint="Give yours another name: @register_model('another-name').",
            )
        taken = self._classes.get(name)
        if taken is not None and _identity(taken) != _identity(cls):
            raise DuplicateModelError(
                f"model class {name!r} is already registered by {taken.__module__}.{taken.__qualname__}.",
                hint="Give this one another name: @register_model('another-name').",
            )
        self._classes[name] = cls

    def names(self) -> list[str]:
        """Every name that `get` knows, sorted; imports nothing."""
        return sorted({*self._classes, *self._modules, *self._installed()})

    def get(self, name: str) -> type[InferenceModel]:
        """The class under `name`, imported now if it was not yet.

        Raises:
            UnknownModelError: When there is none; its message lists what there is.
            PluginError: When importing it fails.
        """
        if name not in self._classes and name in self._modules:
            with _no_garbage_collection():
                importlib.import_module(self._modules[name])
        if name not in self._classes and name in (installed := self._installed()):
            self._load_entry_point(name, installed[name])
        if name in self._classes:
            return self._classes[name]
        meant = did_you_mean(name, self.names())
        raise UnknownModelError(
            f"no model class {name!r} is registered; there are: {', '.join(self.names()) or 'none'}.",
            hint=(f"{meant} " if meant else "")
            + "A class of your own is found with --plugin FILE_OR_MODULE.",
        )

    def _installed(self) -> dict[str, str]:
        if self._group is None:
            return {}
        return {point.name: point.value for point in entry_points(group=self._group)}

    def _load_entry_point(self, name: str, value: str) -> None:
        (point,) = [p for p in entry_points(group=self._group or "") if p.name == name][:1]
        try:
            loaded = point.load()
        # An installed package is someone else's code: it may raise anything on import.
        except Exception as error:
            raise PluginError(
                f"the installed model class {name!r} ({value}) cannot be imported: "
                f"{type(error).__name__}: {error}."
            ) from error
        # An entry point names the class itself, or a module whose import runs @register_model.
        if isinstance(loaded, type) and issubclass(loaded, InferenceModel) and name not in self._classes:
            self.register(name, loaded)


def _identity(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """While an engine is imported: its libraries make a million objects that stay, and nothing to collect.

    Searching them for cycles again and again takes a third of the time that `import torch, transformers` needs.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class ModelRegistry:
    """Model name -> `ModelDeploymentConfig`."""

    def __init__(self) -> None:
        self._configs: dict[str, ModelDeploymentConfig] = {}
        self._sources: dict[str, str] = {}

    def add(self, config: ModelDeploymentConfig, source: str) -> None:
        """Adds one model; `source` is where it was read, for messages.

        Raises:
            DuplicateModelError: When the name is taken by another source.
        """
        if config.name in self._configs:
            raise DuplicateModelError(
                f"model {config.name!r} in {source} is already registered by {self._sources[config.name]}.",
                hint="Give it another name.",
            )
        self._configs[config.name] = config
        self._sources[config.name] = source

    def get(self, name: str) -> ModelDeploymentConfig | None:
        """The model's config, or `None`."""
        return self._configs.get(name)

    def source(self, name: str) -> str:
        """Where the model was read from."""
        return self._sources[name]

    def names(self) -> list[str]:
        """Every registered name, in the order they were added."""
        return list(self._configs)

    def __iter__(self) -> Iterator[ModelDeploymentConfig]:
        return iter(self._configs.values())

    def __len__(self) -> int:
        return len(self._configs)


CLASSES = ClassRegistry(BUILT_IN_CLASSES, ENTRY_POINT_GROUP)
"""The process's registry of model classes, which `register_model` writes to."""


def register_model(name: str | type[InferenceModel] | None = None) -> Callable[[ModelClass], ModelClass]:
    """Class decorator that registers a model class under `name`, or under the class's own name.

    A class that is defined again, in a module that is reloaded or a notebook's cell that is run again, takes its own
    place: of the same module and qualified name, the latest counts. Any other class under a taken name is refused.

    Raises:
        DuplicateModelError: When the name is taken by another class.
        TypeError: When it decorates something that is not an `InferenceModel` class.
    """

    def decorate(cls: ModelClass) -> ModelClass:
        if not (isinstance(cls, type) and issubclass(cls, InferenceModel)):
            raise TypeError(f"@register_model decorates a subclass of InferenceModel, not on {cls!r}")
        CLASSES.register(name if isinstance(name, str) else cls.__name__, cls)
        return cls

    if isinstance(name, type):  # used bare, without parentheses
        return decorate(name)  # type: ignore[return-value]  # the bare form returns the class itself
    return decorate
