from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.batching.workload import Record, answer_alone, draw_pictures, load, requests
from tests.tiny import ARCHITECTURES, build

from pixano_vlm.engines.transformers.model import TransformersVLMModel

Answered = Callable[[str, int], list[Record]]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny architecture, built once a session."""
    folder = tmp_path_factory.mktemp("tiny")

    def path(name: str) -> Path:
        if not (folder / name).exists():
            missing = ARCHITECTURES[name].missing
            if missing:
                pytest.skip(f"{name} needs {', '.join(missing)}; `make test-models` has them")
            build(name, folder / name)
        return folder / name

    return path


@pytest.fixture(scope="session")
def open_model(checkpoint: Callable[[str], Path]) -> Callable[..., TransformersVLMModel]:
    """`open_model("llava", max_batch_size=4)`, each combination loaded once a session."""
    models: dict[str, TransformersVLMModel] = {}

    def open_(name: str, **params: object) -> TransformersVLMModel:
        key = repr((name, sorted(params.items())))
        if key not in models:
            models[key] = load(checkpoint(name), **params)
        return models[key]

    return open_


@pytest.fixture(scope="session")
def answered(open_model: Callable[..., TransformersVLMModel], pictures: list[Path]) -> Answered:
    """`answered("llava", 24)`: so many requests of an architecture with their answers alone, once a session."""
    known: dict[tuple[str, int], list[Record]] = {}

    def answer(name: str, count: int) -> list[Record]:
        if (name, count) not in known:
            known[name, count] = answer_alone(open_model(name), requests(name, pictures, count))
        return known[name, count]

    return answer
