"""Runs models that were written for the `pixano-inference` server: its `VLMModel`, registered by its decorator.

The other way, this package's models in that server, is `pixano_served`. Imports `pixano_inference` only when
somebody else has imported it already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

from pixano_vlm.errors import ConfigError, GenerationError, VLMError
from pixano_vlm.models.deployment import ModelDeploymentConfig
from pixano_vlm.models.generation import SETTINGS
from pixano_vlm.models.image_source import ImageSource, image_data_url
from pixano_vlm.models.limits import Limits
from pixano_vlm.models.registry import BUILT_IN_CLASSES, CLASSES
from pixano_vlm.models.vlm import Key, UsageInfo, VLMInput, VLMModel, VLMOutput

__all__ = ["AdoptedModel", "adopt", "adopt_registered"]

UNKNOWN_THERE = tuple(
    name
    for name, setting in SETTINGS.items()
    if name not in {"max_new_tokens", "temperature", "seed"} and not setting.is_the_runs
)
"""Settings of a `VLMInput` that the server's own has no place for. So it is with `seed`, but a run gives each
record one that nobody asked for, and that does not refuse it."""


class AdoptedModel(VLMModel):
    """Base of adopted classes: speaks this project's contract, and asks an object that speaks the server's.

    Its parameter `max_batch_size`, where given, is the server's setting of that name: how many inputs
    `predict_batch` is given together.
    """

    theirs: type[Any]
    """The class written for the server."""

    def __init__(self, config: ModelDeploymentConfig) -> None:
        super().__init__(config)
        from pixano_inference.configs.deployment import ModelDeploymentConfig as TheirConfig

        params = dict(config.model_params)
        self._batch_size = params.pop("max_batch_size", 1)
        if not isinstance(self._batch_size, int) or self._batch_size < 1:
            raise ConfigError(
                f"model {config.name!r}: max_batch_size is {self._batch_size!r}.", hint="Give 1 or more."
            )
        self._inner = self.theirs(
            TheirConfig(
                name=config.name,
                capability=config.capability,
                model_class=config.model_class,
                model_params=params,
                resources={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
                max_batch_size=self._batch_size,
            )
        )

    def load_model(self) -> None:
        """Loads the weights."""
        self._inner.load_model()

    def unload(self) -> None:
        """Frees what `load_model` took."""
        self._inner.unload()

    def predict(self, input: VLMInput) -> VLMOutput:
        """Answers one input.

        Raises:
            GenerationError: When it asks for a setting that the server does not know, or gets no `VLMOutput`.
        """
        _admit_media(self.limits)
        return _from_theirs(self._inner.predict(_to_theirs(input)))

    def stream(self, inputs: Iterable[tuple[Key, VLMInput]]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        """Answers many inputs, `max_batch_size` at a time; see `VLMModel.stream`."""
        source = iter(inputs)
        while batch := list(islice(source, self._batch_size)):
            together = self._predict_batch([input for _, input in batch]) if len(batch) > 1 else None
            for place, (key, input) in enumerate(batch):
                yield key, self._answer(input) if together is None else together[place]

    def _predict_batch(self, inputs: list[VLMInput]) -> list[VLMOutput] | None:
        """The answers to a batch; None where it failed as a whole.

        One bad input fails a whole batch there. Each is then asked alone, so that it fails alone; what went wrong
        shows again with the record that it belongs to.
        """
        _admit_media(self.limits)
        try:
            outputs = [
                _from_theirs(output) for output in self._inner.predict_batch(list(map(_to_theirs, inputs)))
            ]
        except Exception:  # their class may raise anything
            return None
        return outputs if len(outputs) == len(inputs) else None


def adopt(cls: type[Any]) -> type[AdoptedModel]:
    """A class of this project's contract that runs `cls`, a `VLMModel` of `pixano_inference`."""
    named = {
        "theirs": cls,
        "__doc__": cls.__doc__,
        # Errors and fingerprints name the class that the user wrote.
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
    }
    return type(cls.__name__, (AdoptedModel,), named)


def adopt_registered() -> None:
    """Registers every vision-language class of the server's registry here too; call it after plugins were loaded.

    Does nothing where nobody has imported `pixano_inference`.

    Raises:
        DuplicateModelError: When another class has such a name.
    """
    models = sys.modules.get("pixano_inference.models")
    if models is None:
        return
    for name, cls in models.ModelClassRegistry.list_all().items():
        # This package's own classes are in there too, when the server's plugins were loaded.
        if issubclass(cls, models.VLMModel) and name not in BUILT_IN_CLASSES:
            CLASSES.register(name, adopt(cls))


def _to_theirs(input: VLMInput) -> Any:
    from pixano_inference.models import VLMInput as TheirInput

    unknown = [name for name in UNKNOWN_THERE if getattr(input, name) is not None]
    if unknown:
        raise GenerationError(
            f"a model of the pixano-inference server knows no {', '.join(unknown)}.",
            hint="It takes max_new_tokens and temperature.",
        )
    return TheirInput(
        prompt=deepcopy(input.prompt),  # their class may change what it is given
        images=None if input.images is None else [_encoded(source) for source in input.images],
        max_new_tokens=input.max_new_tokens,
        temperature=input.temperature,
    )


def _encoded(source: ImageSource) -> str | Path | bytes:
    """An image as their class takes it: one in memory as a data URL."""
    return source if isinstance(source, (str, Path, bytes)) else image_data_url(source)


def _from_theirs(output: Any) -> VLMOutput:
    try:
        return VLMOutput(
            generated_text=output.generated_text,
            usage=UsageInfo(**output.usage.model_dump()),
            generation_config=output.generation_config,
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise GenerationError(f"predict returned no VLMOutput: {error}") from error


def _admit_media(limits: Limits) -> None:
    """Tells the server's own image reader what this run admits: left alone it opens no local file at all."""
    from pixano_inference.utils.media_security import MediaPolicy, set_media_policy

    set_media_policy(
        MediaPolicy(
            allow_url=limits.allow_urls,
            allow_private_ips=limits.allow_private_hosts,
            media_roots=(Path("/") if limits.image_root is None else limits.image_root.resolve(),),
            read_timeout_s=limits.fetch_timeout,
            max_image_bytes=limits.max_image_bytes,
            max_image_pixels=limits.max_image_pixels,
        )
    )
