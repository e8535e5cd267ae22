"""Draws the terminal in the README: runs the demo's command and sets what it prints as an SVG.

    python scripts/draw_terminal.py [--to docs/images/run.svg]

The answers shown are those of the run. Its live lines, which are drawn over each other, are left out.

"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
MANIFEST = "examples/shapes/manifest.jsonl"
SHOWN = 4
"""So many answers are shown."""
FONT_FACE = re.compile(r"\s*@font-face \{.*?\}\n", re.DOTALL)
"""Fonts that the drawing would fetch from the network."""


def main() -> None:
    """Runs the commands and writes the drawing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images" / "run.svg")
    arguments = parser.parse_args()
    console = Console(
        record=True,
        width=88,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "answers.jsonl"
        show(console, f"pixano-vlm generate {MANIFEST} --model shapes -o answers.jsonl")
        command = [
            sys.executable,
            "-m",
            "pixano_vlm",
            "generate",
            MANIFEST,
            "--model",
            "shapes",
            "-o",
            str(output),
        ]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603 - our own
        for line in done.stderr.splitlines():
            if not re.search(r"^loading|records/s,", line):
                console.print(Text(line.replace(str(output), "answers.jsonl")))
        console.print()
        show(console, f"head -{SHOWN} answers.jsonl | jq -c '[.id, .generated_text]'")
        for line in output.read_text(encoding="utf-8").splitlines()[:SHOWN]:
            record = json.loads(line)
            console.print(Text(json.dumps([record["id"], record["generated_text"]]), style="green"))
    arguments.to.write_text(FONT_FACE.sub("", console.export_svg(title="pixano-vlm")), encoding="utf-8")


def show(console: Console, command: str) -> None:
    """A prompt with a command behind it."""
    console.print(Text.assemble(("$ ", "bold cyan"), (command, "bold")))


if __name__ == "__main__":
    main()
