"""Build a virtual environment with torchvision beside this interpreter's torch, for the models that need it.

    python scripts/torchvision_env.py .venv-torchvision [--over .venv] [PACKAGE_OR_PIP_OPTION ...]

torchvision of torch's version is on the package index as a CUDA build; its compiled operators do not load
beside a CPU torch, and importing it then fails where it registers shapes for them ("operator torchvision::nms
does not exist"). Everything that a processor uses of it is Python over torch, so the environment gets the
package without its dependencies, and a `.pth` file that stands in for the module of those registrations.
Resizing, normalising and the rest of `torchvision.transforms.v2` work; `nms` and the other compiled operators
do not. Where an index has a build that fits, the operators load and nothing is skipped.

The environment is of the interpreter that runs this script. Rerun, it is brought up to date and not built
anew. With `--over` it sees the packages of another environment and holds only what that one lacks: built in
seconds, and no second copy of torch.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

TORCHVISION = "torchvision==0.28.0"  # the release that belongs to torch 2.13.0

STAND_IN = '''"""Lets torchvision be imported without its compiled operators, which cannot be registered."""

import sys
import types

sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
'''

CHECK = """
import torch
import torchvision.transforms.v2.functional as functional

size = tuple(functional.resize(torch.rand(3, 8, 8), [4, 4]).shape)
assert size == (3, 4, 4), size
print("torchvision works beside torch", torch.__version__)
"""


def run(python: Path, *arguments: str, check: bool = True) -> bool:
    """Run the environment's Python and say whether it succeeded; with `check`, failure ends the script."""
    result = subprocess.run([str(python), *arguments], check=False, capture_output=not check)  # noqa: S603 - our own
    if check and result.returncode:
        sys.exit(f"failed: {python} {' '.join(arguments)}")
    return result.returncode == 0


def interpreter(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def site_packages(python: Path) -> Path:
    """Where an environment's packages are."""
    found = subprocess.run(  # noqa: S603 - our own
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(found.stdout.strip())


def build(folder: Path, packages: list[str], over: Path | None) -> None:
    """Make or update the environment in `folder`, with torchvision and what `packages` tell pip."""
    python = interpreter(folder)
    if not python.exists():
        venv.create(folder, with_pip=True)
    if over is not None:
        # addsitedir reads the other's .pth files too: an editable install is one.
        below = site_packages(interpreter(over.resolve()))
        line = f"import site; site.addsitedir({str(below)!r})\n"
        (site_packages(python) / "_over.pth").write_text(line, encoding="utf-8")
    if packages:
        run(python, "-m", "pip", "install", "-q", *packages)
    # Without its dependencies: it asks for the CUDA build of torch that it was made with.
    run(python, "-m", "pip", "install", "-q", "--no-deps", TORCHVISION)
    if not run(python, "-c", CHECK, check=False):
        site = site_packages(python)
        (site / "_no_torchvision_operators.py").write_text(STAND_IN, encoding="utf-8")
        (site / "_no_torchvision_operators.pth").write_text(
            "import _no_torchvision_operators\n", encoding="utf-8"
        )
    run(python, "-c", CHECK)


def main() -> None:
    """Read the folder and the packages from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the environment is, or is to be")
    parser.add_argument("--over", type=Path, help="an environment whose packages this one sees")
    arguments, packages = parser.parse_known_args()
    build(arguments.folder, packages, arguments.over)


if __name__ == "__main__":
    main()
