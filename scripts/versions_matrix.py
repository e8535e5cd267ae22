"""Run the tests on every Python that is found, and on the oldest and the newest torch.

    python scripts/versions_matrix.py [--pythons python3.10,/opt/python3.13/bin/python] [PYTEST_ARGUMENT ...]

The Makefile hands pytest the same choice of tests as everywhere.

On each Python from 3.10 to 3.14: what pip resolves today. On this Python besides: the lowest versions with the lowest
torch, and today's with the newest. An index that has torch for GPUs alone makes each environment several GB large;
one is there at a time, in build/versions, and it is removed when it has been used. Prints which versions ran and how
that ended, which Pythons were not found, and exits with 1 where a test failed.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from versions_env import REPOSITORY

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
FOLDER = REPOSITORY / "build" / "versions"


def release(interpreter: str | Path) -> str | None:
    """An interpreter's minor release, such as 3.12; None where it does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def find_pythons(named: list[str]) -> dict[str, str]:
    """An interpreter for each of `PYTHONS` that there is: those named, this one, those on the path, and pyenv's."""
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob("*/bin/python3"))
    # Shims are on the path for Pythons that pyenv does not have switched on; they do not run.
    candidates = [
        *named,
        sys.executable,
        *(shutil.which(f"python{wanted}") for wanted in PYTHONS),
        *map(str, pyenv),
    ]
    found: dict[str, str] = {}
    for candidate in filter(None, candidates):
        version = release(candidate)
        if version in PYTHONS:
            found.setdefault(version, candidate)
    return found


def run(name: str, options: list[str], arguments: list[str]) -> tuple[bool, str]:
    """Build one environment and run the tests in it; whether they passed, and in one line on what they ran."""
    folder = FOLDER / name
    builder = [sys.executable, str(REPOSITORY / "scripts" / "versions_env.py"), str(folder), *options]
    print(f"== {name}: {' '.join(options)}", flush=True)
    began = time.monotonic()
    try:
        if subprocess.run(builder, check=False).returncode:  # noqa: S603 - our own
            return False, f"{name}: the environment could not be built"
        built = time.monotonic()
        pytest = [str(folder / "bin" / "python"), "-m", "pytest", *arguments]
        done = subprocess.run(pytest, check=False, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)  # noqa: S603
        print(done.stdout, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ran = re.findall(r"^ran in \S+ on (.+)$", done.stdout, re.MULTILINE)
    seconds = f"{built - began:.0f} s to install, {time.monotonic() - built:.0f} s of tests"
    ended = "passed" if done.returncode == 0 else "FAILED"
    return done.returncode == 0, f"{name}: {ended}, {seconds}; {ran[-1] if ran else 'did not say on what'}"


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pythons", default="", help="interpreters to take, comma between, before those found"
    )
    parser.add_argument("--only", default="", help="names of environments, comma between; default: all")
    asked, arguments = parser.parse_known_args()
    pythons = find_pythons([python for python in asked.pythons.split(",") if python])
    here = release(sys.executable)
    sets = {f"python{version}": ["today", "--python", python] for version, python in pythons.items()}
    sets["torch-lowest"] = ["lowest", "--torch", "lowest"]
    sets["torch-newest"] = ["today", "--torch", "newest"]
    chosen = asked.only.split(",") if asked.only else list(sets)
    results = [run(name, sets[name], arguments) for name in chosen]
    for _, line in results:
        print(line)
    missing = [version for version in PYTHONS if version not in pythons]
    if missing:
        print(f"not found, and not tested: Python {', '.join(missing)} (give them by --pythons)")
    print(f"the torch-lowest and torch-newest sets ran on Python {here}")
    return 0 if all(ok for ok, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
