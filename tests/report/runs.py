"""Runs as `generate` leaves them, written without a model: outputs, manifests, run files, images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pixano_vlm.report import ReportOptions, Written, write_report


def answer(id: str, text: str | None = "a cat", **values: Any) -> dict[str, Any]:
    """One line of an outputs file; without a text, of a record that failed."""
    failed = text is None
    line = {
        "id": id, "status": "error" if failed else "ok", "generated_text": text,
        "usage": None if failed else {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34},
        "generation_config": None if failed else {"max_new_tokens": 64, "temperature": 0.0},
        "finish_reason": None if failed else "stop",
        "error": {"type": "ImageError", "message": "it cannot be read."} if failed else None,
        "model": "fake", "images": [], "metadata": {},
    }  # fmt: skip
    return {**line, **values}


@dataclass(frozen=True)
class Folder:
    """A folder with a manifest, images and outputs in it."""

    path: Path

    def image(self, name: str, size: tuple[int, int] = (64, 48), **options: Any) -> str:
        """Draws an image, and returns its name."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        colour = options.pop("colour", "teal")
        Image.new("RGB", size, colour).save(self.path / name, **options)
        return name

    def lines(self, name: str, lines: list[dict[str, Any]]) -> Path:
        """Writes a JSONL file."""
        path = self.path / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    def run(
        self,
        name: str,
        answers: list[dict[str, Any]],
        asked: list[dict[str, Any]] | None = None,
        **properties: Any,
    ) -> Path:
        """Writes an outputs file, and its manifest and run file if it `asked` something."""
        output = self.lines(f"{name}.jsonl", answers)
        if asked is not None:
            properties["manifest"] = self.lines(f"{name}.manifest.jsonl", asked).name
        if properties:
            output.with_name(output.name + ".run.json").write_text(json.dumps(properties), encoding="utf-8")
        return output

    def report(self, *outputs: Path, **options: Any) -> tuple[Path, Written]:
        """Makes a report, and returns its first page."""
        page = self.path / "report.html"
        written = write_report(ReportOptions(outputs=outputs, page=page, **options))
        return page, written
