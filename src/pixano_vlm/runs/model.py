"""A model that is loaded at most once, and only when something needs it. Draws nothing."""

from __future__ import annotations

from collections.abc import Callable

from pixano_vlm.catalog.hub import check_hub
from pixano_vlm.errors import ModelLoadError, PixanoVLMError
from pixano_vlm.models.fault import raised
from pixano_vlm.models.vlm import VLMModel

__all__ = ["LazyModel", "load_weights"]


class LazyModel:
    """A model that is loaded when it is asked for. A context manager; leaving it unloads what it loaded.

    Args:
        model: The model, which may be loaded already.
        on_loading: Called with the model's name before it is loaded.
    """

    def __init__(self, model: VLMModel, *, on_loading: Callable[[str], None] | None = None) -> None:
        self.model = model
        self._loaded = False
        self._on_loading = on_loading

    def __enter__(self) -> LazyModel:
        return self

    def __exit__(self, *exc: object) -> None:
        # What a model has started beside this process, and its connections, end in good order.
        if self._loaded:
            self._loaded = False
            self.model.unload()

    def load(self) -> VLMModel:
        """The model, loaded.

        Raises:
            ModelLoadError: When it cannot be.
        """
        if not self.model.is_loaded:
            if self._on_loading is not None:
                self._on_loading(self.model.model_name)
            load_weights(self.model)
            self._loaded = True
        return self.model


def load_weights(model: VLMModel) -> None:
    """`model.load_model()`, with whatever a class of someone else's raises reported as a `ModelLoadError`.

    Raises:
        ModelLoadError: When it fails.
    """
    check_hub(model.config)
    try:
        model.load_model()
    except PixanoVLMError:
        raise
    # A model class is someone else's code: it may raise anything.
    except Exception as error:
        raise ModelLoadError(
            f"model {model.model_name!r} cannot be loaded: {type(model).__name__}.load_model failed: "
            f"{raised(error, type(model))}.",
            hint="--traceback shows the calls that led there.",
        ) from error
