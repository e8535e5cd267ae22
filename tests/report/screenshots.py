"""Makes the images of docs/guides/report.md and find-things.md: runs the examples, photographs their pages.

    python -m tests.report.screenshots [--to docs/images] [--keep DIR]

With `--keep`, the outputs and the pages stay in DIR, and outputs that are there are not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from tests.report.browser import Browser, why_not

from pixano_vlm.report import ReportOptions, TruthOptions, write_report

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples" / "shapes"
COLOURS = ["red", "green", "blue", "yellow", "black", "white", "orange", "purple"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, default=REPOSITORY / "docs" / "images")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        args.to.mkdir(parents=True, exist_ok=True)
        photograph(*runs(folder), folder, args.to)
        photograph_regions(folder, args.to)
        photograph_trust(folder, args.to)


def runs(folder: Path) -> tuple[Path, Path]:
    """The examples as they are, greedily, and again sampled and cut short; some records fail in both."""
    shutil.copytree(EXAMPLES / "images", folder / "images", dirs_exist_ok=True)
    records = examples("manifest.jsonl")
    records[6]["images"] = ["images/elsewhere.jpg"]
    records[40]["prompt"] = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}]
    sampled = [{**record, "temperature": 1.6, "seed": 1, "max_new_tokens": 12} for record in records]
    return run(folder, "greedy", records), run(folder, "sampled", sampled)


def examples(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLES / name).read_text("utf-8").splitlines()]


def run(folder: Path, name: str, records: list[dict[str, object]], code: int = 1) -> Path:
    """The output; `code` is 1 where some records fail, and are to."""
    manifest, output = folder / f"{name}.manifest.jsonl", folder / f"{name}.jsonl"
    if not output.exists():
        manifest.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        command = ["-m", "pixano_vlm", "generate", str(manifest), "-m", "shapes", "-o", str(output)]
        done = subprocess.run([sys.executable, *command], check=False)
        if done.returncode != code:
            sys.exit(f"generate ended with {done.returncode}")
    return output


def photograph(greedy: Path, sampled: Path, folder: Path, to: Path) -> None:
    page, changes = folder / "report.html", folder / "changes.html"
    write_report(ReportOptions(outputs=(greedy,), page=page, title="Shapes: what the pictures show"))
    write_report(ReportOptions(outputs=(greedy, sampled), page=changes, title="Shapes: greedy and sampled"))
    with Browser(1280, 860) as browser:
        browser.open(page)
        browser.click('[data-sort="output-0"]')
        browser.click('[data-sort="output-0"]')
        mark(browser, "gjbjjg")
        browser.run("document.activeElement.blur(); scrollTo(0, 0)")
        take(browser, to / "report.png")
        open_record(browser, page, "004-1")
        browser.click("#detail .mark-good")
        browser.run("document.activeElement.blur()")
        take(browser, to / "report-record.png")
        browser.open(page, "#view=gallery")
        browser.click("#metadata > summary")
        browser.run("scrollTo(0, document.querySelector('#toolbar').offsetTop - 8)")
        take(browser, to / "report-gallery.png")
        browser.open(changes)
        browser.choose("#filter-verdict", "different")
        browser.run("document.activeElement.blur(); scrollTo(0, 0)")
        take(browser, to / "report-comparison.png")
    with Browser(1280, 860, dark=True) as browser:
        open_record(browser, changes, "004-1")
        take(browser, to / "report-comparison-dark.png")
    with Browser(390, 780) as browser:
        browser.open(page)
        mark(browser, "gjb")
        shots = [take(browser, folder / "list.png")]
        browser.click('[data-view="gallery"]')
        browser.run("document.activeElement.blur(); scrollTo(0, 0)")
        shots.append(take(browser, folder / "gallery.png"))
        open_record(browser, page, "004-1")
        shots.append(take(browser, folder / "record.png"))
        side_by_side(shots, to / "report-narrow.png")


def photograph_regions(folder: Path, to: Path) -> None:
    asked = {"id": "004-all", "prompt": "Detect all shapes.", "images": ["images/004.jpg"], "regions": True}
    found = run(folder, "regions", [*examples("regions.jsonl"), asked], code=0)
    page = folder / "regions.html"
    write_report(ReportOptions(outputs=(found,), page=page, title="Shapes: where they are"))
    with Browser(1280, 620) as browser:
        open_record(browser, page, "004-all")
        take(browser, to / "report-regions.png")


def photograph_trust(folder: Path, to: Path) -> None:
    """Samples of every answer, and labels where a colour is asked for, against the truth that the examples have."""
    records = examples("manifest.jsonl")
    asked = [
        {**record, "choices": COLOURS}
        if record["metadata"]["kind"] == "colour"
        else {**record, "n": 5, "temperature": 2.2, "seed": number, "max_new_tokens": 16}
        for number, record in enumerate(records)
    ]
    page = folder / "trust.html"
    truth = TruthOptions("answer", metric="normalised")
    output = run(folder, "votes", asked, code=0)
    write_report(ReportOptions(outputs=(output,), page=page, title="Shapes: which to check", truth=truth))
    with Browser(1280, 1000) as browser:
        browser.open(page)
        browser.run(
            "const slider = document.getElementById('threshold'); slider.value = Math.round(slider.max * 0.6);"
            "slider.dispatchEvent(new Event('input'))"
        )
        browser.click('[data-side="below"]')
        browser.run("document.activeElement.blur(); scrollTo(0, 0)")
        take(browser, to / "report-trust.png")
    with Browser(620, 900) as browser:
        shots = []
        for name, wanted in (
            ("labels", "answer.labels"),
            ("samples", "answer.samples && answer.agreement > 0.5"),
        ):
            browser.open(page)
            id = browser.run(
                "const { records } = JSON.parse(document.getElementById('data').textContent);"
                f"return records.filter(({{ answers: [answer] }}) => {wanted})"
                ".sort((one, other) => one.answers[0].confidence - other.answers[0].confidence)[0].id"
            )
            open_record(browser, page, id)
            browser.run(f"document.querySelector('.{name}-of').scrollIntoView({{ block: 'center' }})")
            shots.append(take(browser, folder / f"{name}.png"))
        side_by_side(shots, to / "report-labels.png")


def mark(browser: Browser, keys: str) -> None:
    """Marks records from the first one on: `g` good, `b` bad, `j` next."""
    for key in "j" + keys:
        browser.press(key)
    browser.run("document.activeElement.blur(); scrollTo(0, 0)")


def open_record(browser: Browser, page: Path, id: str) -> None:
    """Opens a record and waits for its original image."""
    browser.open(page, f"#record={id}")
    browser.wait("return document.querySelector('.stage .original')")


def side_by_side(shots: list[Path], path: Path) -> None:
    """Several screenshots in one image, with a gap between them."""
    images = [Image.open(shot).convert("RGB") for shot in shots]
    width = sum(image.width for image in images) + 24 * (len(images) - 1)
    whole = Image.new("RGB", (width, images[0].height), "white")
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + 24
    save(whole, path)


def take(browser: Browser, path: Path) -> Path:
    """A screenshot."""
    browser.screenshot(path)
    with Image.open(path) as image:
        save(image.convert("RGB"), path)
    return path


def save(image: Image.Image, path: Path) -> None:
    """Writes an image in 256 colours: these pages have hardly more, and it is a third of the size."""
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    sys.stdout.write(f"{path.name}: {path.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
