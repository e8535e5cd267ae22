"""The fingerprint tells checkpoints apart by their files, without reading all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.embedded import copy_checkpoint

from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import ModelDeploymentConfig

LAYERS = 64
"""Of 128 KiB each: 8 MiB of weights."""


def fingerprint(folder: Path, retrained: int | None, monkeypatch: pytest.MonkeyPatch) -> str:
    """That of a checkpoint at the path `model`, which is part of it; one of its layers may have been trained on."""
    (folder / "model").mkdir(parents=True)
    weights = {f"layer.{number:02}.weight": torch.zeros(128, 256) for number in range(LAYERS)}
    if retrained is not None:
        weights[f"layer.{retrained:02}.weight"] += 0.01
    save_file(weights, folder / "model" / "model.safetensors")
    monkeypatch.chdir(folder)
    return TransformersVLMModel(ModelDeploymentConfig(name="m", model_params={"path": "model"})).fingerprint()


def test_one_layer_trained_on_anywhere_in_the_file_is_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fingerprint(tmp_path / "first", None, monkeypatch)
    assert fingerprint(tmp_path / "copy", None, monkeypatch) == first
    layers = range(0, LAYERS, 7)
    others = {fingerprint(tmp_path / f"{layer}", layer, monkeypatch) for layer in layers}
    assert len(others - {first}) == len(layers)


def test_a_parameter_that_changes_no_prompt_changes_no_fingerprint(tmp_path: Path) -> None:
    """Runs from before there was such a parameter can be resumed."""

    def of(folder: Path, **params: object) -> str:
        config = {"path": str(folder), **params}
        return TransformersVLMModel(ModelDeploymentConfig(name="m", model_params=config)).fingerprint()

    bare, chat = copy_checkpoint(tmp_path / "bare", None), copy_checkpoint(tmp_path / "chat")
    assert of(bare) == of(bare, chat_template="none")
    assert of(chat) != of(chat, chat_template="none")
    assert of(chat) != of(chat, skip_special_tokens=True)
    (tmp_path / "mine.jinja").write_text("a", encoding="utf-8")
    first = of(chat, chat_template=str(tmp_path / "mine.jinja"))
    (tmp_path / "mine.jinja").write_text("b", encoding="utf-8")
    assert of(chat, chat_template=str(tmp_path / "mine.jinja")) != first
