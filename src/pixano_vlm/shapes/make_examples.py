"""Write a folder of example pictures and two manifests of questions about them, with the right answers.

Run as `python -m pixano_vlm.shapes.make_examples DIR`. The same seed writes the same folder. Questions
about regions have a manifest of their own: they need a model whose convention is known. The pictures are
like files found in the wild in two ways that matter to a reader: not all are JPEG, and one lies on its side,
with an EXIF note of how to turn it. No model is run here: the answers follow from the scenes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from PIL import Image

from .draw import Scene, draw, random_scene
from .questions import QUESTION_KINDS, REGION_KINDS, Question, ask

TURNED_PICTURE: Final = 2
"""The number of the picture that is stored on its side."""
REGION_QUESTIONS: Final = 6
PNG_EVERY: Final = 6
JPEG_QUALITY: Final = 88
EXIF_ORIENTATION: Final = 0x0112
TURN_RIGHT: Final = 6
"""The EXIF orientation that says: turn the stored picture a quarter clockwise to see it upright."""


def make_examples(folder: Path, pictures: int, per_picture: int, seed: int) -> int:
    """Write `folder/images/`, `manifest.jsonl` and `regions.jsonl`; return the number of rows of the first.

    Every kind of question comes up equally often, and answers do not depend on the order of the rows.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng, region_rng = Random(f"shapes/examples/{seed}"), Random(f"shapes/examples/{seed}/regions")
    rows: list[dict[str, Any]] = []
    region_rows: list[dict[str, Any]] = []
    for number in range(1, pictures + 1):
        first = (number - 1) * per_picture
        kinds = [QUESTION_KINDS[(first + i) % len(QUESTION_KINDS)] for i in range(per_picture)]
        scene, questions = _scene_with_questions(kinds, rng)
        picture, drawn = draw(scene, rng)
        name = _save(picture, folder / "images", number)
        rows += [
            _row(f"{number:03}-{letter}", question, name)
            for letter, question in enumerate(questions, start=1)
        ]
        if len(region_rows) < REGION_QUESTIONS:
            kind = REGION_KINDS[len(region_rows) % len(REGION_KINDS)]
            try:
                asked = ask(kind, drawn, region_rng)
            except ValueError:  # nothing in it can be singled out
                continue
            region_rows.append({**_row(f"{number:03}-{kind}", asked, name), "regions": True})
    for file, lines in (("manifest.jsonl", rows), ("regions.jsonl", region_rows)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    return len(rows)


def _row(name: str, question: Question, picture: str) -> dict[str, Any]:
    return {
        "id": name,
        "prompt": question.text,
        "images": [f"images/{picture}"],
        "max_new_tokens": 64,
        "temperature": 0,
        "metadata": {"answer": question.answer, "kind": question.kind},
    }


def _scene_with_questions(kinds: Sequence[str], rng: Random) -> tuple[Scene, list[Question]]:
    """A scene about which all these kinds of question can be asked, and the questions."""
    while True:
        scene = random_scene(rng)
        try:
            return scene, [ask(kind, scene, rng) for kind in kinds]
        except ValueError:
            continue


def _save(picture: Image.Image, folder: Path, number: int) -> str:
    """Write the picture as its number says; return the file's name."""
    if number % PNG_EVERY == 0:
        name = f"{number:03}.png"
        picture.save(folder / name, optimize=True)
    elif number == TURNED_PICTURE:
        name = f"{number:03}.jpg"
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = TURN_RIGHT
        # A quarter to the left, which the note undoes.
        on_its_side = picture.transpose(Image.Transpose.ROTATE_90)
        on_its_side.save(folder / name, quality=JPEG_QUALITY, exif=exif)
    else:
        name = f"{number:03}.jpg"
        picture.save(folder / name, quality=JPEG_QUALITY)
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder and say on stderr what is in it."""
    parser = argparse.ArgumentParser(prog="python -m pixano_vlm.shapes.make_examples", description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder to write")
    parser.add_argument("--pictures", type=int, default=24, help="how many pictures (%(default)s)")
    parser.add_argument("--per-picture", type=int, default=4, help="questions about each (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which pictures (%(default)s)")
    options = parser.parse_args(arguments)
    rows = make_examples(options.folder, options.pictures, options.per_picture, options.seed)
    print(f"{rows} rows about {options.pictures} pictures in {options.folder}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
