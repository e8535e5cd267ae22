"""docs/reference/engines.md and the examples' configs say what the engines take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from pixano_vlm.catalog import create_model, load_catalog
from pixano_vlm.engines.openai.model import OpenAIParams
from pixano_vlm.engines.ray.shares import AHEAD
from pixano_vlm.engines.transformers.device import MOST_TOKENS
from pixano_vlm.engines.vllm.model import REFILL, VLLMParams
from pixano_vlm.models.deployment import TransformersParams

CHAPTERS = [("Transformers", TransformersParams), ("vLLM", VLLMParams), ("Servers", OpenAIParams)]


def chapter(repository: Path, title: str) -> str:
    text = (repository / "docs" / "reference" / "engines.md").read_text(encoding="utf-8")
    (found,) = [part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith(f"{title}\n")]
    return found


@pytest.mark.parametrize(("title", "params"), CHAPTERS)
def test_the_table_has_every_parameter_and_no_other(
    repository: Path, title: str, params: type[BaseModel]
) -> None:
    rows = re.findall(r"^\| (`.+?) \|", chapter(repository, title), re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(documented) == sorted(params.model_fields)


@pytest.mark.parametrize(("title", "params"), [CHAPTERS[0], CHAPTERS[2]])
def test_the_tables_defaults_are_those_of_the_engine(
    repository: Path, title: str, params: type[BaseModel]
) -> None:
    """A number or a flag stands there as it is, a text or an empty mapping as code; none is said in words."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\|", chapter(repository, title), re.MULTILINE)
    assert len(rows) == len(params.model_fields)
    for name, shown in rows:
        field = params.model_fields[name]
        default = field.get_default(call_default_factory=True, validated_data={})
        if field.is_required():
            assert shown == "", name
        elif isinstance(default, bool):
            assert shown == str(default).lower(), name
        elif isinstance(default, int | float):
            assert float(shown) == default, name
        elif default is None:
            assert shown
            assert not shown.isdigit(), name
        else:
            assert shown == f"`{default}`", name


def test_the_transformers_table_has_each_value_of_a_parameter_that_admits_a_few(repository: Path) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", chapter(repository, "Transformers"), re.MULTILINE))
    checked = set()
    for name, field in TransformersParams.model_fields.items():
        for value in choices(field.annotation):
            assert f"`{value}`" in rows[name], f"{name}: {value}"
            checked.add(name)
    assert checked == {"dtype", "quantization", "engine"}
    assert str(MOST_TOKENS) in rows["max_batch_tokens"]


def choices(annotation: Any) -> list[str]:
    """The values that a type names, `None` apart."""
    parts = (annotation, *get_args(annotation))
    return [value for part in parts if get_origin(part) is Literal for value in get_args(part)]


def test_the_scaling_page_counts_with_what_a_worker_holds(repository: Path) -> None:
    """A batch and what waits beside it in vLLM, what is being opened, and what lies ready at the worker."""
    text = " ".join((repository / "docs" / "explanation" / "scaling.md").read_text(encoding="utf-8").split())
    batch, workers = 256, 64
    waiting, opening = max(batch, 2 * REFILL), REFILL // 2
    held = batch + waiting + opening + AHEAD
    said = f"up to {held}: {batch} in the batch, {waiting} that wait inside vLLM"
    assert said in text
    assert f"{2 * REFILL} at least), {opening} whose images are being opened, and {AHEAD} ready" in text
    assert f"{workers} x {held} = {workers * held:,} records" in text
    assert f"{workers} x {AHEAD} = {workers * AHEAD:,} read ahead" in text


def test_the_config_in_the_documentation_makes_a_model(repository: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", chapter(repository, "vLLM"), re.DOTALL)
    (tmp_path / "models.yaml").write_text(block)
    (entry,) = yaml.safe_load(block)["models"]
    assert create_model(load_catalog([tmp_path / "models.yaml"]).get(entry["name"])) is not None  # type: ignore[arg-type]  # it is there


@pytest.mark.parametrize(
    ("example", "name"),
    [("openai_server", "served"), ("openai_server", "hosted"), ("vllm_engine", "shapes-on-vllm")],
)
def test_an_examples_config_makes_a_model(repository: Path, example: str, name: str) -> None:
    catalog = load_catalog([repository / "examples" / example / "models.yaml"])
    assert create_model(catalog.get(name)) is not None  # type: ignore[arg-type]  # it is there
