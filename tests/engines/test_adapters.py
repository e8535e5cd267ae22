"""LoRA adapters over a base model, in the in-flight engine."""

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
from safetensors.torch import load_file, save_file

from pixano_vlm.catalog import create_model, load_catalog, resolve_model
from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.errors import MissingPackageError, ModelLoadError
from pixano_vlm.models import ModelDeploymentConfig, VLMInput

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="needs peft; `make test-models` has it")
# peft 0.21 reads torch's and transformers' deprecated names.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Texts = Callable[[TransformersVLMModel], list[str]]
Open = Callable[..., TransformersVLMModel]
RANK, ALPHA = 4, 8
LAYER = "model.language_model.layers.{}.self_attn.{}_proj"


def write_adapter(folder: Path, base: Path, seed: int, **config: Any) -> Path:
    """A LoRA adapter for the tiny LLaVA's attention, as peft saves one; written without peft."""
    folder.mkdir()
    settings = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["q_proj", "v_proj"],
        "base_model_name_or_path": str(base),
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings | config), encoding="utf-8")
    weights = load_file(base / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    found = {}
    # peft gives an adapter to every layer of a targeted name: those of the vision tower, too.
    for name in (n for n in weights if n.endswith(("q_proj.weight", "v_proj.weight"))):
        place = in_memory(name).removesuffix(".weight")
        rows, columns = weights[name].shape
        found[f"base_model.model.{place}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
        found[f"base_model.model.{place}.lora_B.weight"] = 0.05 * torch.randn(rows, RANK, generator=generator)
    save_file(found, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def in_memory(saved: str) -> str:
    """The place of a saved weight in the loaded model: LLaVA is saved in its first layout."""
    name = saved.replace("language_model.model.", "model.language_model.")
    return name if name.startswith("model.") else f"model.{name}"


def merge_by_hand(folder: Path, base: Path, adapter: Path) -> Path:
    """The base with `B A * alpha / rank` added to its weights: the definition of LoRA."""
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    parts = load_file(adapter / "adapter_model.safetensors")
    for name in weights:
        place = f"base_model.model.{in_memory(name).removesuffix('.weight')}"
        if f"{place}.lora_A.weight" in parts:
            weights[name] = weights[name] + (ALPHA / RANK) * (
                parts[f"{place}.lora_B.weight"] @ parts[f"{place}.lora_A.weight"]
            )
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [write_adapter(folder / str(seed), base, seed) for seed in (1, 2)]


@needs_peft
def test_an_adapter_changes_the_answers_and_they_equal_those_of_the_merged_model(
    base: Path, adapters: list[Path], texts: Texts, open_model: Open, tmp_path: Path
) -> None:
    plain = texts(open_model(base))
    adapted = open_model(base, adapter=str(adapters[0]))
    merged = open_model(merge_by_hand(tmp_path / "merged", base, adapters[0]))
    assert adapted._require().capabilities.in_flight
    assert texts(adapted) == texts(merged)
    assert sum(a != b for a, b in zip(texts(adapted), plain, strict=True)) > len(plain) / 2


@needs_peft
def test_an_adapted_model_is_exact_in_batches(base: Path, adapters: list[Path], open_model: Open) -> None:
    found = open_model(base, adapter=str(adapters[0])).verify()
    assert found.ok
    assert found.records


@needs_peft
def test_several_adapters_over_one_base_are_entries_of_a_config_file(
    base: Path, adapters: list[Path], texts: Texts
) -> None:
    file = adapters[0].parent / "models.yaml"
    file.write_text(
        f"""
        models:
          - {{name: plain, model_params: {{path: {base}, dtype: float32}}}}
          - {{name: one, model_params: {{path: {base}, dtype: float32, adapter: ./{adapters[0].name}}}}}
          - {{name: two, model_params: {{path: {base}, dtype: float32, adapter: ./{adapters[1].name}}}}}
        """,
        encoding="utf-8",
    )
    catalog = load_catalog([file])
    answers, prints = set(), set()
    for name in ("plain", "one", "two"):
        model = create_model(resolve_model(name, catalog))
        assert isinstance(model, TransformersVLMModel)
        model.load_model()
        answers.add(tuple(texts(model)))
        prints.add(model.fingerprint())
    assert len(answers) == len(prints) == 3


@needs_peft
def test_a_run_with_an_adapter_answers_as_the_merged_model_and_is_not_resumed_under_another(
    base: Path, adapters: list[Path], asked: list[VLMInput], cli: Callable[..., Any], tmp_path: Path
) -> None:
    manifest = tmp_path / "m.jsonl"
    lines = [
        asked[index].model_dump_json(include={"prompt", "images", "max_new_tokens"}) for index in range(4)
    ]
    manifest.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def run(model: Path, output: str, *flags: str | Path) -> tuple[int, list[str]]:
        summary, out = tmp_path / "s.json", tmp_path / output
        always = ("--dtype", "float32", "--temperature", "0", "-o", out, "--summary-json", summary)
        ran = cli("generate", manifest, "--model", model, *always, *flags)
        assert ran.code == 0, ran.err
        told = [json.loads(line)["generated_text"] for line in out.read_text(encoding="utf-8").splitlines()]
        return json.loads(summary.read_text())["reused"], told

    first = run(base, "o.jsonl", "--adapter", adapters[0])
    assert first == run(merge_by_hand(tmp_path / "merged", base, adapters[0]), "merged.jsonl")
    ran = json.loads((tmp_path / "o.jsonl.run.json").read_text(encoding="utf-8"))
    assert ran["model"]["model_params"]["adapter"] == str(adapters[0])
    assert run(base, "o.jsonl", "--adapter", adapters[0], "--resume") == (4, first[1])
    reused, other = run(base, "o.jsonl", "--adapter", adapters[1], "--resume")
    assert reused == 0
    assert other != first[1]
    assert other == run(base, "other.jsonl", "--adapter", adapters[1])[1]


@needs_peft
def test_describe_names_the_adapter(base: Path, adapters: list[Path], open_model: Open) -> None:
    facts = open_model(base, adapter=str(adapters[0])).describe()
    assert facts["adapter"] == f"{adapters[0]} (merged)"
    assert "adapter" not in open_model(base).describe()


def test_an_adapter_with_other_weights_is_another_model_to_resume(
    base: Path, adapters: list[Path], tmp_path: Path
) -> None:
    def fingerprint(adapter: Path | None) -> str:
        params = {"path": str(base), **({"adapter": str(adapter)} if adapter else {})}
        return TransformersVLMModel(ModelDeploymentConfig(name="tiny", model_params=params)).fingerprint()

    trained = tmp_path / "trained"
    shutil.copytree(adapters[0], trained)
    before = fingerprint(trained)
    assert before == fingerprint(trained)
    assert before != fingerprint(None)
    shutil.copy(adapters[1] / "adapter_model.safetensors", trained)
    assert before != fingerprint(trained)


@needs_peft
def test_an_adapter_of_another_model_is_refused_and_says_what_it_was_made_for(
    base: Path, tmp_path: Path, open_model: Open
) -> None:
    folder = write_adapter(tmp_path / "other", base, 3, base_model_name_or_path="someone/other-7b")
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({n: w[:, :1].contiguous() for n, w in weights.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelLoadError, match=r"cannot be put on.*made for 'someone/other-7b'"):
        open_model(base, adapter=str(folder))


@needs_peft
def test_an_adapter_with_weights_that_have_no_place_is_refused(
    base: Path, tmp_path: Path, open_model: Open
) -> None:
    folder = write_adapter(tmp_path / "more", base, 3)
    weights = load_file(folder / "adapter_model.safetensors")
    stray = f"base_model.model.{LAYER.format(9, 'q')}.lora_A.weight"
    save_file(weights | {stray: torch.ones(RANK, 64)}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelLoadError, match=r"1 of its \d+ weights have no place there .*layers\.9"):
        open_model(base, adapter=str(folder))


@needs_peft
def test_a_prompt_adapter_is_refused(base: Path, tmp_path: Path, open_model: Open) -> None:
    folder = write_adapter(tmp_path / "prompt", base, 3)
    settings = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4, "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="PROMPT_TUNING, which changes the prompt"):
        open_model(base, adapter=str(folder))


@needs_peft
def test_a_pickled_adapter_is_refused(base: Path, tmp_path: Path, open_model: Open) -> None:
    folder = write_adapter(tmp_path / "pickled", base, 3)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelLoadError, match="pickled weights alone"):
        open_model(base, adapter=str(folder))


@needs_peft
def test_a_folder_that_holds_no_adapter_says_what_it_lacks(
    base: Path, tmp_path: Path, open_model: Open
) -> None:
    with pytest.raises(ModelLoadError, match=r"no adapter_config\.json and no adapter_model\.safetensors"):
        open_model(base, adapter=str(tmp_path))


@needs_peft
def test_a_missing_adapter_is_told_before_the_base_is_read(
    base: Path, tmp_path: Path, open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*args: Any, **kwargs: Any) -> None:
        pytest.fail("gigabytes were read for nothing")

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", read)
    with pytest.raises(ModelLoadError, match=r"is not a folder here"):
        open_model(base, adapter=str(tmp_path / "misspelt"))


def test_without_peft_the_extra_is_named(
    base: Path, adapters: list[Path], open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # importing it fails as if it were not there
    with pytest.raises(MissingPackageError, match=r"pip install 'pixano-vlm\[peft\]'"):
        open_model(base, adapter=str(adapters[0]))
