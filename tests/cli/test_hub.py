"""Without a network: said at once, or done without."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from pixano_vlm.catalog import hub
from pixano_vlm.catalog.hub import check_hub
from pixano_vlm.errors import ModelLoadError
from pixano_vlm.models import ModelDeploymentConfig


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No connection can be made; the list has those that were tried."""
    tried: list[Any] = []

    def refuse(address: Any, timeout: float) -> socket.socket:
        tried.append(address)
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return tried


def model(path: str, **values: Any) -> ModelDeploymentConfig:
    return ModelDeploymentConfig(name="m", model_params={"path": path, **values.pop("params", {})}, **values)


def test_weights_that_are_not_here_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        ModelLoadError, match=r"'a/b' are not on this machine, and huggingface\.co cannot be reached"
    ):
        check_hub(model("a/b", params={"cache_dir": str(tmp_path)}))


def test_weights_that_are_here_are_used_without_asking(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"")
    check_hub(model("a/b", params={"cache_dir": str(tmp_path)}))
    assert constants.HF_HUB_OFFLINE is True


@pytest.mark.parametrize(
    "config",
    [
        model("package:pixano_vlm/models"),
        model("a/b", params={"local_files_only": True}),
        model("a/b", model_class="my-vlm"),
        model("a/b", model_class="OpenAIVLMModel"),
        ModelDeploymentConfig(name="m"),
    ],
)
def test_a_model_that_needs_no_hub_asks_for_none(
    config: ModelDeploymentConfig, no_network: list[Any]
) -> None:
    check_hub(config)
    assert no_network == []


def test_behind_a_proxy_nothing_is_concluded(monkeypatch: pytest.MonkeyPatch, no_network: list[Any]) -> None:
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy:3128"})
    check_hub(model("a/b"))
    assert no_network == []
