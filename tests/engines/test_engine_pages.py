"""docs/engines.md and the examples' configs say what the engines take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pixano_vlm.catalog import create_model, load_catalog
from pixano_vlm.engines.openai import OpenAIParams
from pixano_vlm.engines.vllm import VLLMParams


def chapter(repository: Path, title: str) -> str:
    text = (repository / "docs" / "engines.md").read_text(encoding="utf-8")
    (found,) = [part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith(f"{title}\n")]
    return found


@pytest.mark.parametrize(("title", "params"), [("vLLM", VLLMParams), ("Servers", OpenAIParams)])
def test_the_table_has_every_parameter_and_no_other(repository: Path, title: str, params: type) -> None:
    rows = re.findall(r"^\| (`.+?) \|", chapter(repository, title), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == set(params.model_fields)  # type: ignore[attr-defined]  # a Pydantic model


def test_the_tables_defaults_are_those_of_the_servers_engine(repository: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", chapter(repository, "Servers"), re.MULTILINE)
    for name, shown in rows:
        default = OpenAIParams.model_fields[name].default
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert float(shown) == default, name
        elif isinstance(default, bool):
            assert shown == str(default).lower(), name


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
