"""The public names: pinned, documented, and cheap to import."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys

import pytest

import pixano_vlm
from pixano_vlm import errors

PUBLIC = [
    "GenerationSettings",
    "InferenceModel",
    "Limits",
    "ModelDeploymentConfig",
    "PixanoVLMError",
    "Result",
    "Run",
    "RunEvents",
    "Summary",
    "UsageInfo",
    "VLMError",
    "VLMInput",
    "VLMModel",
    "VLMOutput",
    "__version__",
    "generate",
    "load_image",
    "load_model",
    "register_model",
]

HEAVY = ("torch", "transformers", "numpy", "PIL", "tokenizers", "safetensors", "torchvision")


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(pixano_vlm.__all__) == PUBLIC
    for name in pixano_vlm.__all__:
        assert hasattr(pixano_vlm, name)


@pytest.mark.parametrize(
    "statement",
    [
        "import pixano_vlm, pixano_vlm.models, pixano_vlm.catalog, pixano_vlm.cli",
        "from pixano_vlm.cli import main; main(['--help'])",
        "from pixano_vlm.cli import main; main(['generate', '--help'])",
        "from pixano_vlm.cli import main; main(['--version'])",
        "from pixano_vlm.cli import main; main(['list'])",
        "from pixano_vlm.cli import main; main(['list', '--json'])",
        "from pixano_vlm.cli import main; main(['load', 'nope'])",
    ],
)
def test_nothing_heavy_is_imported_by(statement: str) -> None:
    """Importing, --help, --version, list and a wrong name answer without torch and transformers."""
    program = f"""
import sys
try:
    {statement}
except SystemExit:
    pass
print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_a_run_by_itself_imports_neither_torch_nor_numpy() -> None:
    """What a run needs beside its model starts at once, and small: only the model's engine brings the rest."""
    program = "import sys, pixano_vlm.runs.run; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def modules() -> list[str]:
    return [
        info.name
        for info in pkgutil.walk_packages(pixano_vlm.__path__, "pixano_vlm.")
        if not info.name.endswith("__main__")
    ]


ON_OTHERS = {
    "pixano_vlm.engines.pixano.served": "pixano_inference",
    "pixano_vlm.importers.pixano_format": "pixano",
}
"""Modules whose classes are based on those of a package that is not installed everywhere, and the package."""


@pytest.mark.parametrize("name", modules())
def test_every_public_name_of_a_module_is_documented(name: str) -> None:
    """Modules, classes, functions and public methods say what they do."""
    if name in ON_OTHERS:
        pytest.importorskip(ON_OTHERS[name])
    module = importlib.import_module(name)
    assert inspect.getdoc(module), f"{name} has no docstring"
    for public, thing in vars(module).items():
        if public.startswith("_") or getattr(thing, "__module__", None) != name:
            continue
        if inspect.isfunction(thing):
            assert thing.__doc__, f"{name}.{public}"
        if inspect.isclass(thing):
            assert thing.__doc__, f"{name}.{public}"
            for method, member in vars(thing).items():
                if not method.startswith("_") and inspect.isfunction(member):
                    assert inspect.getdoc(getattr(thing, method)), f"{name}.{public}.{method}"


class TestErrors:
    def test_the_tree_in_the_docstring_is_the_tree(self) -> None:
        """Each class stands in errors.py's drawing, under its base, and in `__all__`."""
        drawn: list[tuple[int, str]] = []
        for line in (errors.__doc__ or "").splitlines():
            if (name := line.lstrip(" │├└─").split(" ")[0]) in errors.__all__:
                drawn.append((line.index(name), name))
        parents: dict[str, str] = {}
        for place, (indent, name) in enumerate(drawn):
            above = [other for other_indent, other in drawn[:place] if other_indent < indent]
            if above:
                nearest_indent = max(i for i, other in drawn[:place] if i < indent)
                parents[name] = [other for i, other in drawn[:place] if i == nearest_indent][-1]
        assert {name for _, name in drawn} == set(errors.__all__)
        for name, parent in parents.items():
            assert getattr(errors, name).__base__.__name__ == parent

    def test_an_error_crosses_processes_whole(self) -> None:
        error = pickle.loads(pickle.dumps(errors.ImageError("wrong.", hint="Do this.")))
        assert (type(error), error.message, error.hint) == (errors.ImageError, "wrong.", "Do this.")
        assert str(error) == "wrong. Do this."
