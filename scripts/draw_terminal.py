"""Draws the terminal in the README: runs two commands on the examples and sets what they print as an SVG.

    python scripts/draw_terminal.py [--to docs/images/run.svg]

The answers shown are those of the run. Its live lines, which are drawn over each other, are left out.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
MANIFEST = "examples/shapes/manifest.jsonl"
QUESTION = ["examples/shapes/images/002.jpg", "What is in this picture?"]
FONT_FACE = re.compile(r"\s*@font-face \{.*?\}\n", re.DOTALL)
"""Fonts that the drawing would fetch from the network."""


def main() -> None:
    """Runs the commands and writes the drawing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images" / "run.svg")
    arguments = parser.parse_args()
    console = Console(
        record=True,
        width=100,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "answers.jsonl")
        show(console, f"pixano-vlm generate {MANIFEST} --model shapes -o answers.jsonl")
        printed = run("generate", MANIFEST, "--model", "shapes", "-o", output).stderr
        for line in printed.splitlines():
            if not re.search(r"^loading|records/s,", line):
                console.print(Text(line.replace(output, "answers.jsonl")))
        console.print()
        show(console, f'pixano-vlm ask {QUESTION[0]} "{QUESTION[1]}" --model shapes')
        console.print(Text(run("ask", *QUESTION, "--model", "shapes").stdout.strip()))
    arguments.to.write_text(FONT_FACE.sub("", console.export_svg(title="pixano-vlm")), encoding="utf-8")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command's own output."""
    command = [sys.executable, "-m", "pixano_vlm", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603 - our own


def show(console: Console, command: str) -> None:
    """A prompt with a command behind it."""
    console.print(Text.assemble(("$ ", "bold cyan"), (command, "bold")))


if __name__ == "__main__":
    main()
