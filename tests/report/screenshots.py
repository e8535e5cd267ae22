"""Makes the pictures of docs/report.md: runs the examples twice with the embedded model, and photographs the page.

    python -m tests.report.screenshots [--to docs/images] [--keep DIR]

With `--keep`, the two outputs and the pages stay in DIR, and outputs that are there are not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from tests.report.browser import Browser, why_not

from pixano_vlm.report import ReportOptions, write_report

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples" / "shapes"


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


def runs(folder: Path) -> tuple[Path, Path]:
    """The examples as they are, greedily, and again sampled and cut short; some records fail in both."""
    shutil.copytree(EXAMPLES / "images", folder / "images", dirs_exist_ok=True)
    records = [json.loads(line) for line in (EXAMPLES / "manifest.jsonl").read_text("utf-8").splitlines()]
    records[6]["images"] = ["images/elsewhere.jpg"]
    records[40]["prompt"] = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}]
    sampled = [{**record, "temperature": 1.6, "seed": 1, "max_new_tokens": 12} for record in records]
    return run(folder, "greedy", records), run(folder, "sampled", sampled)


def run(folder: Path, name: str, records: list[dict[str, object]]) -> Path:
    manifest, output = folder / f"{name}.manifest.jsonl", folder / f"{name}.jsonl"
    if not output.exists():
        manifest.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        command = ["-m", "pixano_vlm", "generate", str(manifest), "-m", "shapes", "-o", str(output)]
        done = subprocess.run([sys.executable, *command], check=False)
        if done.returncode != 1:  # some records fail, and are to
            sys.exit(f"generate ended with {done.returncode}")
    return output


def photograph(greedy: Path, sampled: Path, folder: Path, to: Path) -> None:
    page, changes = folder / "report.html", folder / "changes.html"
    write_report(ReportOptions(outputs=(greedy,), page=page, title="Shapes: what the pictures hold"))
    write_report(ReportOptions(outputs=(greedy, sampled), page=changes, title="Shapes: greedy and sampled"))
    with Browser(1280, 860) as browser:
        browser.open(page)
        browser.click('[data-sort="output-0"]')
        browser.click('[data-sort="output-0"]')
        browser.run("document.activeElement.blur(); scrollTo(0, 0)")
        take(browser, to / "report.png")
        browser.open(page, "#record=004-1")
        take(browser, to / "report-record.png")
        browser.open(changes)
        browser.choose("#filter-verdict", "different")
        browser.run("document.activeElement.blur(); scrollTo(0, 0)")
        take(browser, to / "report-comparison.png")
    with Browser(1280, 860, dark=True) as browser:
        browser.open(changes, "#record=004-1")
        take(browser, to / "report-comparison-dark.png")
    with Browser(400, 860, scale=1.5) as browser:
        browser.open(changes)
        browser.run("document.querySelector('#toolbar').scrollIntoView()")
        take(browser, to / "report-narrow.png")


def take(browser: Browser, path: Path) -> None:
    """A screenshot in 256 colours: these pages have hardly more, and it is a third of the size."""
    browser.screenshot(path)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    sys.stdout.write(f"{path.name}: {path.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
