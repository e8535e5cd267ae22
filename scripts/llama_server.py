"""Build llama.cpp's server and a GGUF of the embedded model, from the package index alone.

    python scripts/llama_server.py .venv-engines/llama --python .venv/bin/python

The index has no llama.cpp. The source distribution of llama-cpp-python has it whole, in `vendor/llama.cpp`: that is
downloaded, unpacked and built with cmake (20 minutes on 2 cores). In the folder are then

    llama-server    the server
    model.gguf      the language model of `shapes`
    mmproj.gguf     its vision tower

A second run does not build it again. Needs cmake, ninja and a C++ compiler (`apt-get install cmake ninja-build g++`),
and a Python with torch and transformers for the conversion.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = REPOSITORY / "src" / "pixano_vlm" / "shapes" / "model"
SOURCES = "llama-cpp-python==0.3.36"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF",
)  # fmt: skip
CONVERT = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/gguf-py"]
from conversion import base, llama
# The converter knows a tokenizer by a digest of what it makes of one text, and this one is nobody else's: it splits
# words as GPT-2's does, but for "bbox_2d" and "point_2d" in prompts.
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
llama.LlamaModel.set_vocab = base.TextModel._set_vocab_gpt2
vocab = base.TextModel.get_vocab_base
def with_two_lines(self):
    # The server puts a token of two line ends before an image, which this model has none of and reads over: it is
    # the one that pads.
    tokens, types, splits = vocab(self)
    tokens[0], types[0] = chr(0x10A) * 2, base.gguf.TokenType.NORMAL
    return tokens, types, splits
base.TextModel.get_vocab_base = with_two_lines
import convert_hf_to_gguf
sys.argv = ["convert", *sys.argv[2:]]
convert_hf_to_gguf.main()
"""


def run(*command: str | Path) -> None:
    """Run a command; a failure ends the script."""
    done = subprocess.run([str(part) for part in command], check=False)  # noqa: S603 - our own
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}")


def unpack(python: Path, folder: Path) -> Path:
    """Download the sources; returns llama.cpp's folder among them."""
    pip = [
        python,
        "-m",
        "pip",
        "download",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-binary",
        ":all:",
    ]
    run(*pip, "-d", folder, SOURCES)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    [sources] = folder.glob("*/vendor/llama.cpp")
    return sources


def build(sources: Path, folder: Path) -> None:
    """Build the server."""
    run("cmake", "-S", sources, "-B", sources / "build", "-G", "Ninja", *OPTIONS)
    run("cmake", "--build", sources / "build", "--target", "llama-server")
    shutil.copy2(sources / "build" / "bin" / "llama-server", folder / "llama-server")


def convert(python: Path, sources: Path, folder: Path) -> None:
    """Convert the embedded model, its vision tower apart, as llama.cpp has it."""
    with tempfile.TemporaryDirectory(prefix="shapes-") as temporary:
        _convert(python, sources, write_as_published(Path(temporary) / "shapes"), folder)


def write_as_published(folder: Path) -> Path:
    """A copy of the model that says what older checkpoints say, which the converter reads it by."""
    shutil.copytree(MODEL, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["architectures"] = ["VLlama3ForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    processor = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(processor["image_processor"]), encoding="utf-8"
    )
    return folder


def _convert(python: Path, sources: Path, model: Path, folder: Path) -> None:
    for name, *flags in (("model.gguf",), ("mmproj.gguf", "--mmproj")):
        made = ["--outtype", "f32", "--outfile", folder / name, *flags]
        run(python, "-c", CONVERT, sources, model, *made)


def main() -> None:
    """Read the folder from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the server and the model are to be")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="has torch and transformers"
    )
    parser.add_argument("--sources", type=Path, help="llama.cpp's sources, where they are here already")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / name).exists() for name in ("llama-server", "model.gguf", "mmproj.gguf")):
        return
    with tempfile.TemporaryDirectory(prefix="llama-") as temporary:
        sources = arguments.sources or unpack(Path(sys.executable), Path(temporary))
        convert(arguments.python, sources, folder)
        if not (folder / "llama-server").exists():
            build(sources, folder)


if __name__ == "__main__":
    main()
