"""A checkpoint that is not whole is refused by the name of the file, and with what to run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.embedded import copy_checkpoint, count_right, examples, open_checkpoint

from pixano_vlm.errors import ModelLoadError

POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
)


def in_shards(folder: Path, count: int = 3) -> None:
    """Splits the weights as `save_pretrained` does where they are large."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {}
    for number in range(count):
        name = f"model-{number + 1:05}-of-{count:05}.safetensors"
        held = dict(list(weights.items())[number::count])
        save_file(held, folder / name, metadata={"format": "pt"})
        where |= dict.fromkeys(held, name)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def no_shard(folder: Path) -> None:
    in_shards(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()


def no_index(folder: Path) -> None:
    in_shards(folder)
    (folder / "model.safetensors.index.json").unlink()


def cut_off(folder: Path) -> None:
    in_shards(folder)
    file = folder / "model-00003-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def empty_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def pointer(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text(POINTER, encoding="utf-8")

    return damage


def without(*names: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def an_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def one_folder_up(folder: Path) -> None:
    inside = folder / "checkpoint-500"
    inside.mkdir()
    (folder / "config.json").rename(inside / "config.json")


def gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-Q4_K_M.gguf")


DAMAGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a shard is missing": (no_shard, r"missing: model-00002-of-00003\.safetensors.*hf download"),
    "the index of the shards is missing": (no_index, r"model\.safetensors\.index\.json is missing"),
    "a shard is cut off": (
        cut_off,
        r"model-00003-of-00003\.safetensors is cut off: [\d,]+ of its [\d,]+ bytes",
    ),
    "the weights are empty": (empty_file, r"model\.safetensors is cut off"),
    "the weights are a pointer": (
        pointer("model.safetensors"),
        r"model\.safetensors is a Git LFS pointer.*git lfs pull",
    ),
    "the tokenizer is a pointer": (
        pointer("tokenizer.json"),
        r"tokenizer\.json is a Git LFS pointer.*git lfs pull",
    ),
    "the config is a pointer": (pointer("config.json"), r"config\.json is a Git LFS pointer.*git lfs pull"),
    "the processor's config is missing": (
        without("processor_config.json"),
        r"no preprocessor_config\.json and no processor_config\.json.*hf download",
    ),
    "the tokenizer is missing": (
        without("tokenizer.json"),
        r"it has no tokenizer: no tokenizer\.json.*hf download",
    ),
    "there is neither tokenizer nor its config": (
        without("tokenizer.json", "tokenizer_config.json"),
        "no tokenizer",
    ),
    "the weights are missing": (
        without("model.safetensors"),
        r"it has no weights: model\.safetensors is missing",
    ),
    "it is an adapter": (an_adapter, r"no config\.json.*a PEFT adapter.*--adapter"),
    "it is the folder of a training": (one_folder_up, r"no config\.json.*in its folder checkpoint-500"),
    "it is for llama.cpp": (gguf, r"GGUF weights alone.*llama\.cpp"),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_what_is_missing_is_named_with_what_to_run(how: str, tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "m")
    damage, said = DAMAGED[how]
    damage(folder)
    with pytest.raises(ModelLoadError, match=said) as raised:
        open_checkpoint(folder)
    assert "network" not in str(raised.value)


def test_one_in_shards_that_are_all_there_is_loaded(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "m")
    in_shards(folder)
    assert count_right(open_checkpoint(folder), examples(4)) == 4
