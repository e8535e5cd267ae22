"""How long a report takes: to make, to open in Chromium, to search and to scroll.

    python -m benchmarks.report_page [--records 5000] [--records-per-page 5000] [--folder DIR]

Every record has an image of its own and a paragraph for an answer. Prints one JSON line. `open_seconds` is the
median over `--times` fresh navigations from disk until every thumbnail can be shown; `first_rows_seconds` is until
the first rows are on the screen; `gallery_frame_ms_p95` is scrolling the gallery, `mark_ms_worst` marking a record
where half of all are marked. Needs Chromium and the extra `browser`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from tests.report.browser import Browser, why_not

from pixano_vlm.report import ReportOptions, write_report
from pixano_vlm.report.report import RECORDS_PER_PAGE

WORDS = "a small red boat lies by the old pier while two gulls wait on its roof in morning light"

FIRST_ROWS = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime / 1000"
SEARCH = """
const field = document.getElementById('search'), start = performance.now();
field.value = arguments[0];
field.dispatchEvent(new Event('input'));
document.body.offsetHeight;
return performance.now() - start;
"""
SCROLL = """
const done = arguments[arguments.length - 1], frames = [], end = document.body.scrollHeight;
let at = 0, before = performance.now();
function frame(now) {
  frames.push(now - before); before = now; at += end / 60; scrollTo(0, at);
  if (frames.length < 60) requestAnimationFrame(frame);
  else done(frames.sort((a, b) => a - b)[56]);
}
requestAnimationFrame(frame);
"""


MARK = """
const start = performance.now();
document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'j', bubbles: true }));
document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'b', bubbles: true }));
document.body.offsetHeight;
return performance.now() - start;
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--records-per-page", type=int, default=RECORDS_PER_PAGE)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--times", type=int, default=5)
    args = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        output = make_run(folder, args.records)
        page = folder / "report.html"
        start = time.perf_counter()
        write_report(ReportOptions(outputs=(output,), page=page, records_per_page=args.records_per_page))
        figures = {"records": args.records, "make_seconds": round(time.perf_counter() - start, 2)}
        figures["megabytes"] = round(page.stat().st_size / 1e6, 1)
        print(json.dumps(figures | measured(page, args.times)))


def make_run(folder: Path, records: int) -> Path:
    """A manifest, its images and its outputs, as a captioning run leaves them."""
    random.seed(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    asked, answered = [], []
    for number in range(records):
        image = f"images/{number}.jpg"
        if not (folder / image).exists():
            noise = Image.merge("RGB", [Image.effect_noise((24, 18), 90) for _ in range(3)])
            noise.resize((384, 288), Image.Resampling.BICUBIC).save(folder / image, quality=88)
        text = " ".join(random.choices(WORDS.split(), k=random.randint(20, 90)))
        cut = random.random() < 0.05
        asked.append({"id": f"photo-{number}", "prompt": "Describe this image.", "images": [image]})
        tokens = {"prompt_tokens": 280, "completion_tokens": len(text.split()), "total_tokens": 0}
        answered.append(
            {
                "id": f"photo-{number}", "status": "ok", "generated_text": text, "usage": tokens,
                "generation_config": {"max_new_tokens": 90}, "finish_reason": "length" if cut else "stop",
                "error": None, "model": "m", "images": [image], "metadata": {},
            }
        )  # fmt: skip
    output = folder / "outputs.jsonl"
    for path, lines in ((folder / "manifest.jsonl", asked), (output, answered)):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    run = {"manifest": "manifest.jsonl"}
    output.with_name("outputs.jsonl.run.json").write_text(json.dumps(run), "utf-8")
    return output


def mark_half(browser: Browser) -> None:
    """Marks every second record, as a file of marks does."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        ids = browser.run(
            "return JSON.parse(document.getElementById('data').textContent).records.map(r => r.id)"
        )
        file.writelines(json.dumps({"id": id, "mark": "good", "note": "as it is"}) + "\n" for id in ids[::2])
        file.flush()
        browser.hand_over("#marks-file", Path(file.name))
        browser.wait("return document.getElementById('marks-said').textContent")


def measured(page: Path, times: int) -> dict[str, float]:
    opened, first = [], []
    with Browser() as browser:
        for _ in range(times):
            opened.append(browser.open(page))
            first.append(browser.wait(FIRST_ROWS))
        searches = [browser.run(SEARCH, text) for text in ("g", "gu", "gul", "gull", "gulls boat", "")]
        frame = browser.driver.execute_async_script(SCROLL)
        mark_half(browser)
        marked = [browser.run(MARK) for _ in range(5)]
        browser.run("document.querySelector('[data-view=gallery]').click(); scrollTo(0, 0)")
        gallery = browser.driver.execute_async_script(SCROLL)
    return {
        "open_seconds": round(statistics.median(opened), 2),
        "open_seconds_worst": round(max(opened), 2),
        "first_rows_seconds": round(statistics.median(first), 2),
        "search_ms_worst": round(max(searches), 1),
        "scroll_frame_ms_p95": round(frame, 1),
        "gallery_frame_ms_p95": round(gallery, 1),
        "mark_ms_worst": round(max(marked), 1),
    }


if __name__ == "__main__":
    main()
