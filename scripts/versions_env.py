"""Build a virtual environment in which the tests run on other versions than those of constraints.txt.

    python scripts/versions_env.py .venv-today today [--share .venv]
    python scripts/versions_env.py .venv-lowest lowest [--share .venv]
    python scripts/versions_env.py FOLDER today --torch newest --python python3.13

`today` is what pip resolves with nothing pinned. `lowest` is each dependency of pyproject.toml at its lower bound,
those of the extra `dev` too; what these depend on in turn is pip's choice. Both have torch 2.13.0, of which an index
may have a build for CPUs alone, unless `--torch` says otherwise: a version, `lowest` or `newest`. With `--share`,
torch is that of another environment if it has the same version: linked, not installed again.

The environment is built anew at every call.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
TORCH = "2.13.0"
"""The version of constraints.txt."""

LOCATE = """
import importlib.metadata, pathlib, sysconfig
torch = importlib.metadata.distribution("torch")
print(torch.version)
for name in sorted({file.parts[0] for file in torch.files} - {".."}):
    print(pathlib.Path(torch.locate_file(name)).resolve())
"""


def bounds(text: str) -> dict[str, str]:
    """The lower bound of each dependency in a pyproject.toml, of the package and of its extra `dev`, by name.

    Raises:
        ValueError: When one has no lower bound.
    """
    project = tomllib.loads(text)["project"]
    found = {}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*>=\s*([\w.]+)", requirement)
        if match is None:
            raise ValueError(f"{requirement} has no lower bound")
        found[match[1].lower()] = match[2]
    return found


def constraints(versions: str, torch: str) -> list[str]:
    """What pip is held to, one requirement per line."""
    lowest = bounds((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    held = dict(lowest) if versions == "lowest" else {}
    held["torch"] = lowest["torch"] if torch == "lowest" else torch
    return [f"{name}=={version}" for name, version in held.items() if version != "newest"]


def run(*command: str | Path) -> str:
    """Run a command and return what it prints; its failure ends the script."""
    done = subprocess.run(  # noqa: S603 - our own
        [str(part) for part in command], check=False, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return done.stdout


def share_torch(owner: Path, python: Path, wanted: str) -> None:
    """Link another environment's torch into this one, if it is of the version that is wanted."""
    version, *places = run(owner, "-c", LOCATE).splitlines()
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip())
    if version.split("+")[0] == wanted:
        for place in map(Path, places):
            (site / place.name).symlink_to(place)


def build(folder: Path, versions: str, torch: str, interpreter: str, shared: Path | None) -> None:
    """Make the environment."""
    if folder.exists():
        shutil.rmtree(folder)
    run(interpreter, "-m", "venv", folder)
    python = folder / "bin" / "python"
    held = folder / "held.txt"
    lines = constraints(versions, torch)
    held.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if shared is not None:
        share_torch(shared / "bin" / "python", python, torch)
    # Not compiled: of transformers' two thousand modules the tests import a few.
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile", "-c", held)
    # torch first and by itself: pip would try many versions of it otherwise.
    run(*pip, next((line for line in lines if line.startswith("torch==")), "torch"))
    run(*pip, "-e", f"{REPOSITORY}[dev]")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the environment is to be")
    parser.add_argument("versions", choices=["today", "lowest"])
    parser.add_argument("--torch", default=TORCH, metavar="VERSION", help=f"default: {TORCH}")
    parser.add_argument("--python", default=sys.executable, help="the interpreter; default: this one")
    parser.add_argument(
        "--share", type=Path, metavar="FOLDER", help="an environment whose torch this one takes"
    )
    asked = parser.parse_args()
    build(asked.folder, asked.versions, asked.torch, asked.python, asked.share)


if __name__ == "__main__":
    main()
