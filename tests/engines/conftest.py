"""Models and requests for the tests of loading, adapters and quantization.

Imported by the fixtures alone: the tests of other engines run where transformers is older than the tiny models.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pixano_vlm.engines.transformers.model import TransformersVLMModel
    from pixano_vlm.models import VLMInput

    Texts = Callable[[TransformersVLMModel], list[str]]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA."""
    from tests.tiny import build

    return build("llava", tmp_path_factory.mktemp("llava") / "base")


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[VLMInput]:
    """A dozen requests that it takes."""
    from tests.batching.workload import draw_pictures, requests

    return requests("llava", draw_pictures(tmp_path_factory.mktemp("pictures"), 4), 12, longest=40)


@pytest.fixture(scope="session")
def texts(asked: list[VLMInput]) -> Texts:
    """What a model answers to those requests, all in one stream."""

    def answer(model: TransformersVLMModel) -> list[str]:
        found = dict(model.stream(enumerate(asked)))
        return [found[index].generated_text for index in range(len(asked))]

    return answer


@pytest.fixture(scope="session")
def open_model() -> Callable[..., TransformersVLMModel]:
    """Loads a folder as a user does, in float32."""
    from tests.batching.workload import load

    return load
