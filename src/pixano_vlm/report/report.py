"""Makes a report: outputs, prompts and images -> one HTML file, or numbered ones past 5,000 records.

Whatever the number of records, those of one page are in memory and no more (of the others, their ids).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from pixano_vlm import __version__
from pixano_vlm.errors import OutputError, UsageError
from pixano_vlm.report.answers import OutputFile
from pixano_vlm.report.images import PageImages
from pixano_vlm.report.judging import TruthOptions, changes, figures, open_judge
from pixano_vlm.report.page import GENERATOR, render
from pixano_vlm.report.pairing import Pair, pairs, verdicts
from pixano_vlm.report.prompts import Asked, Prompts
from pixano_vlm.report.rows import row
from pixano_vlm.report.shown_run import ShownRun
from pixano_vlm.scoring.judge import Judge

__all__ = ["RECORDS_PER_PAGE", "THUMBNAIL_SIZE", "ReportOptions", "Written", "write_report"]

RECORDS_PER_PAGE = 5_000
THUMBNAIL_SIZE = 256


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a report is made of, and how."""

    outputs: tuple[Path, ...]
    """One outputs file, or two to compare."""
    page: Path
    """The file to write."""
    manifest: Path | None = None
    """Where the prompts are, in any form that `generate` takes; by default what each output's run file names."""
    images: Path | None = None
    """Where relative image paths start; by default the manifest's folder."""
    fetch_urls: bool = False
    """Whether `http(s)` images are fetched."""
    thumbnail_size: int = THUMBNAIL_SIZE
    """Longest edge of a thumbnail, in pixels."""
    title: str | None = None
    truth: TruthOptions | None = None
    """Where the right answers are, and how answers are compared with them."""
    records_per_page: int = RECORDS_PER_PAGE


@dataclass(slots=True)
class Written:
    """What was written."""

    pages: list[Path]
    records: int = 0
    images: int = 0
    missing: int = 0
    """Images that could not be shown."""
    without_prompt: int = 0
    """Records whose prompt was not found."""


class _Source:
    """One output and what belongs to it."""

    def __init__(self, path: Path, options: ReportOptions) -> None:
        self.file = OutputFile(path)
        self.run = ShownRun(path)
        source = self.run.source() if options.manifest is None else self.run.source_at(options.manifest)
        self.prompts = None if source is None else Prompts(source)
        beside = self.prompts.folder if self.prompts else self.run.image_folder() or path.resolve().parent
        self.folder = options.images or beside

    def asked(self, pair: Pair) -> Asked | None:
        """What the record asked; without a manifest, the images that its output names."""
        found = self.prompts.find(pair.id, pair.occurrence) if self.prompts else None
        if found is not None:
            return found
        images = tuple(pair.first.images)
        return Asked(None, images) if images else None

    def close(self) -> None:
        """Closes the manifest."""
        if self.prompts is not None:
            self.prompts.close()

    def figures(self, judge: Judge | None) -> dict[str, Any]:
        """What the page's head says of the output."""
        totals = self.file.totals
        trust = None if judge is None else figures(self.file, judge)
        return {
            "file": self.file.path.name,
            "model": ", ".join(name for name, _ in totals.models.most_common(3)),
            "records": totals.records,
            "ok": totals.ok,
            "flagged": totals.flagged,
            "input": totals.prompt_tokens,
            "output": totals.completion_tokens,
            **self.run.rates(),
            "properties": self.run.properties(),
            "trust": trust,
        }


def write_report(options: ReportOptions, on_progress: Callable[[int, int], None] | None = None) -> Written:
    """Writes the page, or the numbered pages.

    Args:
        options: What to make it of.
        on_progress: Called with the records done and those in all, after each page.

    Raises:
        UsageError: When an output or a truth is missing or is something else, or another file is where the page
            would go.
        ManifestError: When the manifest is given and cannot be read.
    """
    if len(options.outputs) > 2:
        raise UsageError(
            f"{len(options.outputs)} outputs, and a report compares two.", hint="Make a report of each pair."
        )
    with ExitStack() as opened:
        sources = []
        for path in options.outputs:
            sources.append(source := _Source(path, options))
            opened.callback(source.close)
        return _write_pages(sources, options, on_progress)


def _write_pages(
    sources: Sequence[_Source], options: ReportOptions, on_progress: Callable[[int, int], None] | None
) -> Written:
    files = [source.file for source in sources]
    counts = verdicts(files) if len(files) > 1 else {}
    total = sum(counts.values()) if counts else files[0].totals.records
    judge = None if options.truth is None else open_judge(options.truth, options.outputs[0])
    names = _page_names(options, -(-total // options.records_per_page) or 1)
    for page in names:
        _check_free(page)
    head = {
        "title": options.title or " and ".join(path.name for path in options.outputs),
        "version": __version__,
        "pages": [page.name for page in names],
        "total": total,
        "verdicts": counts,
        "runs": [source.figures(judge) for source in sources],
        "truth": None
        if judge is None
        else {
            "name": judge.truth.name,
            "metric": judge.metric.name,
            "says": judge.metric.says,
            "changes": changes(pairs(files), judge) if counts else {},
        },
        "marks": _marks_key(options.outputs),
    }
    written = Written(names)
    rest = pairs(files)
    for number, page in enumerate(names):
        chunk = list(islice(rest, options.records_per_page))
        _write_page(page, {**head, "page": number}, chunk, sources, options, written, judge)
        if on_progress is not None:
            on_progress(written.records, total)
    return written


def _write_page(
    page: Path, head: dict[str, Any], chunk: list[Pair], sources: Sequence[_Source], options: ReportOptions,
    written: Written, judge: Judge | None,
) -> None:  # fmt: skip
    page_images = PageImages(options.thumbnail_size, page, fetch_urls=options.fetch_urls)
    rows = []
    for pair in chunk:
        asked = tuple(source.asked(pair) for source in sources)
        numbers = next(
            ([page_images.add(name, source.folder) for name in one.images]
             for one, source in zip(asked, sources, strict=True) if one is not None),
            [],
        )  # fmt: skip
        written.records += 1
        written.without_prompt += all(one is None or one.prompt is None for one in asked)
        rows.append(row(written.records, pair, asked, numbers, judge))
    images, thumbnails = page_images.load()
    written.images += len(images)
    written.missing += sum(image.thumbnail is None for image in images)
    data = {**head, "records": rows, "images": [image.to_dict() for image in images]}
    _replace(page, render(head["title"], data, thumbnails))


def _marks_key(outputs: Sequence[Path]) -> str:
    """Names the outputs that a reader's marks are about: the same for every page that is made of them."""
    paths = "\0".join(str(path.resolve()) for path in outputs)
    return blake2b(paths.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()


def _page_names(options: ReportOptions, count: int) -> list[Path]:
    """`report.html`, `report-2.html` and so on."""
    first = options.page
    return [first, *(first.with_name(f"{first.stem}-{n}{first.suffix}") for n in range(2, count + 1))]


def _check_free(page: Path) -> None:
    """Refuses to write over anything but an earlier report."""
    if page.is_dir():
        raise OutputError(f"{page} is a folder.", hint="Name a file with -o FILE.")
    if not page.parent.is_dir():
        raise OutputError(f"there is no folder {page.parent}.", hint="Create it, or name another file.")
    if page.exists():
        with page.open("rb") as file:
            if GENERATOR.encode() not in file.read(1024):
                raise OutputError(
                    f"{page} exists and is not a report.", hint="Name another file with -o FILE."
                )


def _replace(page: Path, pieces: Iterator[str]) -> None:
    """Writes the page beside its place and puts it there in one step: no half of one is ever seen."""
    temporary = page.with_name(page.name + ".new")
    try:
        # Half a surrogate pair, for which UTF-8 has no bytes, is written as JSON writes it: \ud800.
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(pieces)
        temporary.replace(page)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{page} cannot be written: {error.strerror or error}.") from error
