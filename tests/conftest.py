"""What all tests stand on: no network, few threads, the command run in this process."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

# Before anything imports the hub's client or torch, which read these once. Workers side by side must not each
# take every core.
os.environ["HF_HUB_OFFLINE"] = "1"
# Nor the config files of whoever runs the tests.
os.environ["PIXANO_VLM_CONFIG"] = ""
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).parents[1]

TOLD = (
    "torch",
    "transformers",
    "typer",
    "pydantic",
    "pillow",
    "rich",
    "pyyaml",
    "httpcore",
    "numpy",
    "torchvision",
)
"""Packages whose versions are told of every run, those that are there."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line says where the tests ran, and on which versions."""
    versions = [f"Python {platform.python_version()}"]
    for name in TOLD:
        with suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    terminalreporter.write_line(f"ran in {Path(sys.prefix).name} on {', '.join(versions)}")


@pytest.fixture
def repository() -> Path:
    """The repository's top folder."""
    return REPOSITORY


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes with one thread: matrices as small as a test's are slower on several."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def classes() -> Iterator[None]:
    """Model classes that a test registers, and plugins that it loads, are forgotten after it."""
    from pixano_vlm.models.registry import BUILT_IN_CLASSES, CLASSES

    before = set(CLASSES._classes)
    yield
    # The package's own stay: their modules are imported once, and register them only then.
    for name in set(CLASSES._classes) - before - set(BUILT_IN_CLASSES):
        del CLASSES._classes[name]
    for name in [name for name in sys.modules if name.startswith("pixano_vlm_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def cli(
    classes: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ran]]:
    """Runs `pixano-vlm ARGS` in this process: `cli("list", "--json").out`."""
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, os.environ.get(name, "0" if name.endswith("BARS") else "warning"))
    level = logging.getLogger().level
    monkeypatch.delenv("PIXANO_VLM_TRACEBACK", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: str | Path) -> Ran:
        from pixano_vlm.cli import main

        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Ran(code, out, err)

    yield run
    logging.captureWarnings(False)
    logging.getLogger().setLevel(level)


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[[str, Sequence[str]], Path]:
    """Writes a text file into the test's folder and returns its path."""

    def write(name: str, lines: Sequence[str]) -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write
