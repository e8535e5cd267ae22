"""A model behind a `ScriptedServer`, and what is asked of it."""

from __future__ import annotations

import base64
import gc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.engines.scripted_server import ScriptedServer

from pixano_vlm.engines.openai import server as chat_server
from pixano_vlm.engines.openai.model import OpenAIVLMModel
from pixano_vlm.models import ModelDeploymentConfig, VLMInput


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """Connections that a test left open are closed within its own module."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_server, "FIRST_WAIT", 0.02)


def config(url: str, **params: Any) -> ModelDeploymentConfig:
    return ModelDeploymentConfig(
        name="served", model_class="OpenAIVLMModel", model_params={"base_url": url, **params}
    )


@pytest.fixture
def connect() -> Iterator[Any]:
    models = []

    def connect(server: ScriptedServer, **params: Any) -> OpenAIVLMModel:
        model = OpenAIVLMModel(config(server.url, **params))
        model.load_model()
        models.append(model)
        return model

    yield connect
    for model in models:
        model.unload()


def ask(prompt: Any = "What?", **settings: Any) -> VLMInput:
    return VLMInput(**{"prompt": prompt, "max_new_tokens": 8, "temperature": 0, **settings})


def picture(path: Path, size: tuple[int, int] = (20, 10), **options: Any) -> Path:
    Image.new("RGB", size, "red").save(path, **options)
    return path


def sent_picture(url: str) -> tuple[str, bytes, Image.Image]:
    head, data = url.split(",", 1)
    decoded = base64.b64decode(data)
    return head, decoded, Image.open(BytesIO(decoded))


def served_image(server: ScriptedServer) -> tuple[str, bytes, Image.Image]:
    """The first image of the first request."""
    return sent_picture(server.bodies[0]["messages"][-1]["content"][0]["image_url"]["url"])
