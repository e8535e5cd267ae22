"""Loading in fewer bits, on a CPU, with real methods."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engines.test_adapters import needs_peft, write_adapter
from tests.tiny import llava
from tests.tiny.building import save

from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import ConfigError, MissingPackageError
from pixano_vlm.models import ModelDeploymentConfig

PACKAGES = {"int8": "torchao", "int4": "bitsandbytes"}
Texts = Callable[[TransformersVLMModel], list[str]]
Open = Callable[..., TransformersVLMModel]

# What these packages, and transformers over them, warn of is not this project's to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


def needs(method: str) -> Any:
    """One method, skipped with the reason where its packages are not there."""
    packages = ["accelerate", PACKAGES[method]]
    missing = [package for package in packages if find_spec(package) is None]
    return pytest.param(
        method,
        marks=pytest.mark.skipif(
            bool(missing), reason=f"needs {', '.join(missing)}; `make test-models` has them"
        ),
    )


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA with layers wide enough for blocks of 64 weights."""
    parts = llava.llava()
    for config in (parts.config.text_config, parts.config.vision_config):
        config.hidden_size, config.intermediate_size = 128, 256
    parts.config.text_config.head_dim = 32
    return save(parts, tmp_path_factory.mktemp("wide") / "wide", 0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", [needs("int8"), needs("int4")])
def test_quantized_weights_take_less_memory_and_still_answer_in_flight(
    wide: Path, method: str, dtype: str, texts: Texts, open_model: Open
) -> None:
    plain = open_model(wide, dtype=dtype)
    model = open_model(wide, dtype=dtype, quantization=method)
    facts = model.describe()
    assert facts["quantization"] == method
    assert facts["parameters"] == plain.describe()["parameters"]
    before, after = facts["memory_bytes_unquantized"], facts["memory_bytes"]
    assert isinstance(before, int)
    assert isinstance(after, int)
    # A third of this model are embeddings, which stay as they are.
    assert after < (0.5 if dtype == "float32" else 0.7) * before
    assert model._require().capabilities.in_flight
    assert all(texts(model))


@pytest.mark.parametrize("method", [needs("int8"), needs("int4")])
def test_a_quantized_model_is_exact_in_batches(wide: Path, method: str, open_model: Open) -> None:
    assert open_model(wide, quantization=method).verify().ok


@pytest.mark.parametrize("method", [needs("int8")])
def test_int8_hardly_changes_the_answers(wide: Path, method: str, texts: Texts, open_model: Open) -> None:
    pairs = zip(texts(open_model(wide, quantization=method)), texts(open_model(wide)), strict=True)
    assert sum(a[:8] == b[:8] for a, b in pairs) >= 8, "of twelve answers of random weights"


@pytest.mark.parametrize("method", [needs("int8"), needs("int4")])
def test_how_other_models_in_the_process_compute_stays_as_it_was(
    wide: Path, method: str, open_model: Open
) -> None:
    import torch._inductor.config as compiling

    def settings() -> tuple[str, bool, bool]:
        return (
            torch.get_float32_matmul_precision(),
            compiling.coordinate_descent_tuning,
            compiling.force_fuse_int_mm_with_mul,
        )

    before = settings()
    open_model(wide, quantization=method)
    assert settings() == before


@needs_peft
@pytest.mark.parametrize("method", [needs("int8"), needs("int4")])
def test_an_adapter_over_quantized_weights_is_kept_beside_them(
    wide: Path, method: str, texts: Texts, open_model: Open, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter", wide, 1)
    model = open_model(wide, quantization=method, adapter=str(adapter))
    assert model.describe()["adapter"] == f"{adapter} (beside the weights)"
    assert model.verify().ok
    assert texts(model) != texts(open_model(wide, quantization=method))


def test_quantization_is_part_of_the_fingerprint(base: Path) -> None:
    prints = {
        TransformersVLMModel(
            ModelDeploymentConfig(name="tiny", model_params={"path": str(base), "quantization": method})
        ).fingerprint()
        for method in (None, "int8", "int4")
    }
    assert len(prints) == 3


def test_an_unknown_method_is_refused_with_those_there_are(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"'quantization' of .* must be 'int8' or 'int4', not 'int3'"):
        TransformersVLMModel(
            ModelDeploymentConfig(name="tiny", model_params={"path": str(base), "quantization": "int3"})
        )


@pytest.mark.parametrize(("method", "package"), PACKAGES.items())
def test_without_its_package_a_method_names_the_extra(
    base: Path, method: str, package: str, open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails as if it were not there
    with pytest.raises(MissingPackageError, match=rf"{method} needs.*{package}.*pixano-vlm\[quantization\]"):
        open_model(base, quantization=method)


def test_a_checkpoint_that_is_quantized_already_is_not_quantized_again(
    base: Path, open_model: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "awq"
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"quantized already \(awq\)"):
        open_model(folder, quantization="int8")
