"""The sets of versions that CI runs are what they are said to be."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts"))
    import versions_env

    yield versions_env
    for name in ("versions_env", "versions_matrix"):
        sys.modules.pop(name, None)


def test_the_lowest_set_is_every_dependency_at_its_lower_bound(env: Any) -> None:
    text = """
    [project]
    dependencies = ["httpcore>=1.0.9", "Torch>=2.6,<3", 'pandas>=2.2; python_version >= "3.11"']
    [project.optional-dependencies]
    dev = ["pytest>=9", "httpx[http2]>=0.28"]
    """
    assert env.bounds(text) == {
        "httpcore": "1.0.9",
        "torch": "2.6",
        "pandas": "2.2",
        "pytest": "9",
        "httpx": "0.28",
    }


def test_a_dependency_without_a_lower_bound_is_refused(env: Any) -> None:
    text = '[project]\ndependencies = ["rich"]\n[project.optional-dependencies]\ndev = []'
    with pytest.raises(ValueError, match="rich has no lower bound"):
        env.bounds(text)


def test_the_sets_are_those_of_the_project_and_torch_is_that_of_the_pins(env: Any) -> None:
    pinned = re.findall(r"^torch==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned == [env.TORCH]
    assert env.constraints("today", env.TORCH) == [f"torch=={env.TORCH}"]
    assert env.constraints("today", "newest") == []
    lowest = env.constraints("lowest", env.TORCH)
    assert f"torch=={env.TORCH}" in lowest
    bounds = env.bounds((REPOSITORY / "pyproject.toml").read_text())
    assert {"transformers", "typer", "pydantic", "pillow", "openai", "pyarrow", "llguidance"} <= bounds.keys()
    assert {line.split("==")[0] for line in lowest} == bounds.keys()
    assert f"torch=={bounds['torch']}" in env.constraints("lowest", "lowest")


def test_this_environment_is_within_the_bounds_and_at_them_where_it_is_the_lowest(env: Any) -> None:
    from importlib.metadata import PackageNotFoundError, version

    from packaging.version import Version

    held = Path(sys.prefix) / "held.txt"  # what `versions_env.py` held pip to
    exact = dict(line.split("==") for line in held.read_text().splitlines()) if held.exists() else {}
    for name, bound in env.bounds((REPOSITORY / "pyproject.toml").read_text()).items():
        try:
            here = Version(version(name))
        except PackageNotFoundError:
            continue  # pandas on Python 3.10
        assert here >= Version(bound), name
        assert name not in exact or Version(here.public) == Version(exact[name]), name


def test_pythons_that_do_not_run_are_not_taken(env: Any, tmp_path: Path) -> None:
    import versions_matrix

    broken = tmp_path / "python3.12"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    assert versions_matrix.release(broken) is None
    assert versions_matrix.release(tmp_path / "none") is None
    assert broken not in versions_matrix.find_pythons([str(broken)]).values()
    here = "{}.{}".format(*sys.version_info)
    assert versions_matrix.find_pythons([sys.executable])[here] == sys.executable


def test_the_whole_suite_runs_on_every_set() -> None:
    """All targets hand pytest the same choice of tests, and CI makes the three quick ones, two without `once`."""
    makefile = (REPOSITORY / "Makefile").read_text()
    for environment in ("$(BIN)", "$(VENV)-today/bin", "$(VENV)-lowest/bin"):
        assert f"\t{environment}/python -m pytest $(SUITE)\n" in makefile
    assert re.search(
        r"^\t\$\(BIN\)/python scripts/versions_matrix\.py .*\$\(SUITE\)$", makefile, re.MULTILINE
    )
    made = re.findall(r"^make ([a-z -]+)", (REPOSITORY / ".ci" / "run").read_text(), re.MULTILINE)
    assert "test" in made[0].split()
    assert {"test-today", "test-lowest"} <= set(made[1].split())
