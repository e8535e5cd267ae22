"""What loading says when something is missing, damaged or not allowed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from pixano_vlm.engines.transformers import loading
from pixano_vlm.engines.transformers.loading import load_model, load_processor, read_params
from pixano_vlm.errors import ConfigError, MissingPackageError, ModelLoadError
from pixano_vlm.models import ModelDeploymentConfig
from pixano_vlm.models.deployment import TransformersParams


def params(path: str | Path, **others: Any) -> TransformersParams:
    return read_params(ModelDeploymentConfig(name="m", model_params={"path": str(path), **others}))


@pytest.fixture
def copied(base: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint, free to be damaged."""
    return shutil.copytree(base, tmp_path / "copy")


def raising(error: BaseException) -> Any:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


def test_an_unknown_parameter_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no parameter 'max_batchsize'.*Did you mean 'max_batch_size'\?"):
        params("somewhere", max_batchsize=4)


def test_a_parameter_like_no_other_is_refused_with_all_names() -> None:
    with pytest.raises(ConfigError, match=r"no parameter 'zzz'\. Known: path, revision"):
        params("somewhere", zzz=4)


def test_a_wrong_value_is_refused_with_its_parameter() -> None:
    with pytest.raises(ConfigError, match=r"'max_batch_size' of .* must be 1 or more, not 0"):
        params("somewhere", max_batch_size=0)


def test_a_folder_without_a_config_says_so(copied: Path) -> None:
    (copied / "config.json").unlink()
    with pytest.raises(ModelLoadError, match=r"the folder has no config\.json"):
        load_model(params(copied))


def test_an_empty_folder_says_that_it_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"has no config\.json.*Give the folder of a saved model"):
        load_processor(params(tmp_path))


def test_a_path_that_is_nowhere_is_said_to_be_not_on_this_machine() -> None:
    with pytest.raises(ModelLoadError, match="not on this machine, and local_files_only is set"):
        load_model(params("nobody/no-such-model", local_files_only=True))


def test_a_misspelt_local_path_is_not_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no such folder"):
        load_model(params(tmp_path / "misspelt"))


def test_pickled_weights_are_not_loaded(copied: Path) -> None:
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="no safetensors weights, and pickled ones are not loaded"):
        load_model(params(copied))


def test_a_damaged_weights_file_is_a_failure_to_load(copied: Path) -> None:
    whole = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelLoadError, match=r"the model of .* cannot be loaded"):
        load_model(params(copied))


def test_a_checkpoint_of_a_kind_that_is_not_a_vision_language_model_is_a_failure_to_load(
    copied: Path,
) -> None:
    (copied / "config.json").write_text(json.dumps({"model_type": "bert"}), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="BertConfig"):
        load_model(params(copied))


def test_an_architecture_of_a_later_transformers_is_named_with_the_release_that_is_here(copied: Path) -> None:
    (copied / "config.json").write_text(json.dumps({"model_type": "of_next_year"}), encoding="utf-8")
    with pytest.raises(ModelLoadError) as raised:
        load_model(params(copied))
    release = transformers.__version__
    assert f"transformers {release} does not know its architecture, 'of_next_year'" in str(raised.value)
    assert raised.value.hint == "A later release may: pip install -U transformers."


def test_code_that_comes_with_a_checkpoint_is_not_run_unasked(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "code.Config"}}
    (copied / "config.json").write_text(json.dumps(config), encoding="utf-8")
    ran = copied / "ran"
    (copied / "code.py").write_text(f"open({str(ran)!r}, 'w')", encoding="utf-8")
    with pytest.raises(ModelLoadError, match=r"brings code of its own.*trust_remote_code: true"):
        load_model(params(copied))
    assert not ran.exists()


def test_a_missing_torchvision_is_named_with_the_extra(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = (
        "Qwen2VLVideoProcessor requires the Torchvision library but it was not found in your environment."
    )
    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", raising(ImportError(message)))
    with pytest.raises(MissingPackageError, match=r"it needs torchvision.*pixano-vlm\[torchvision\]"):
        load_processor(params(base))


@pytest.mark.parametrize("kind", [RuntimeError, ModuleNotFoundError])
def test_a_torchvision_that_does_not_match_torch_is_said_to_be_that(
    base: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    error = kind("Could not import module 'X'. operator torchvision::nms does not exist")
    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", raising(error))
    with pytest.raises(MissingPackageError, match=r"does not match torch .*pip install -U torch torchvision"):
        load_processor(params(base))


def test_a_missing_module_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ModuleNotFoundError("No module named 'timm.layers'", name="timm.layers")
    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", raising(error))
    with pytest.raises(MissingPackageError, match=r"it needs timm.*pip install timm"):
        load_model(params(base))


def test_a_gated_model_says_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError("You are trying to access a gated repo. Make sure to have access to it.")
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", raising(error))
    with pytest.raises(ModelLoadError, match=r"gated repo.*`hf auth login`"):
        load_model(params("someone/gated"))


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="'cuda:1' was asked for, but this torch sees no GPU"):
        loading.choose_device("cuda:1")


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="'abacus' is not a device"):
        loading.choose_device("abacus")


@pytest.mark.parametrize(("computes", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_half_precision_checkpoints_run_on_a_cpu_in_what_it_computes_fast(
    monkeypatch: pytest.MonkeyPatch, computes: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(loading, "cpu_computes_bfloat16", lambda: computes)
    assert loading.choose_dtype("auto", torch.float16, torch.device("cpu")) == expected
    assert loading.choose_dtype("auto", torch.float16, torch.device("cuda")) == torch.float16
    assert loading.choose_dtype("float16", torch.float32, torch.device("cpu")) == torch.float16
