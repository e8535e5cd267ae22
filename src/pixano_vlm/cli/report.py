"""`pixano-vlm report`: outputs as a page to look at. Imports neither torch nor transformers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixano_vlm.cli.options import Traceback
from pixano_vlm.errors import UsageError

if TYPE_CHECKING:
    from pixano_vlm.report import Written

__all__ = ["report"]

IMAGES = "Images"
TRUTH = "Right and wrong"


def report(
    outputs: Annotated[
        list[Path],
        typer.Argument(metavar="OUTPUT", help="What `generate` wrote; two of them are shown side by side."),
    ],
    page: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="The HTML file to write.")
    ] = Path("report.html"),
    title: Annotated[
        str | None,
        typer.Option("--title", metavar="TEXT", help="The page's title. Default: the files' names."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            metavar="PATH",
            help="The manifest with the prompts. Default: the one that each run read, named in "
            "<output>.run.json.",
        ),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            "--truth",
            metavar="KEY|FILE",
            help="Mark right and wrong answers: a key of the records' metadata, or a JSONL, CSV or Parquet file with "
            "ids, as for `score`.",
            rich_help_panel=TRUTH,
        ),
    ] = None,
    truth_column: Annotated[
        str | None,
        typer.Option(
            "--truth-column",
            metavar="NAME",
            help="Which column of the file. Default: truth, or the only one.",
            rich_help_panel=TRUTH,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="exact, normalised, number, anls, f1, choice or json. Default: what fits the truths.",
            rich_help_panel=TRUTH,
        ),
    ] = None,
    tolerance: Annotated[
        str,
        typer.Option(
            "--tolerance",
            metavar="T",
            help="How far a number may be off: 0.5, or 5% of the truth.",
            rich_help_panel=TRUTH,
        ),
    ] = "0",
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Where relative image paths start. Default: the manifest's folder.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    fetch_urls: Annotated[
        bool,
        typer.Option(
            "--fetch-urls",
            metavar="",
            help="Fetch the images that are on the web, to put them into the page.",
            rich_help_panel=IMAGES,
        ),
    ] = False,
    thumbnail_size: Annotated[
        int,
        typer.Option(
            "--thumbnail-size",
            metavar="N",
            min=16,
            max=2048,
            help="Longest edge of an embedded thumbnail, in pixels.",
            rich_help_panel=IMAGES,
        ),
    ] = 256,
    show: Annotated[bool, typer.Option("--open", metavar="", help="Open the page in the browser.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", metavar="", help="No progress and no remarks, errors only.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Make a page to look at from outputs: one HTML file that opens without a server.

    It contains thumbnails, prompts, answers, tokens, errors and flags, to search, filter, sort and mark as good or
    bad; and makes no request to any network. An open record shows the original image where that is beside the page.
    Two outputs are compared record by record, by id, with the differences marked. With a truth it marks what is
    right, and shows from which confidence on answers can be trusted. Past 5,000 records it continues in
    report-2.html and so on. An earlier report of the same name is replaced.

    Prints the names of the files that it wrote.
    """
    from pixano_vlm.report import ReportOptions, TruthOptions, write_report
    from pixano_vlm.scoring.metrics import Tolerance

    if truth is None:
        _refuse_without_truth(truth_column=truth_column, metric=metric, tolerance=tolerance)

    def progress(done: int, total: int) -> None:
        if not quiet and done < total:
            sys.stderr.write(f"{done:,} of {total:,} records\n")

    written = write_report(
        ReportOptions(
            outputs=tuple(outputs),
            page=page,
            manifest=manifest,
            images=images,
            fetch_urls=fetch_urls,
            thumbnail_size=thumbnail_size,
            title=title,
            truth=None
            if truth is None
            else TruthOptions(truth, truth_column, metric, Tolerance.read(tolerance)),
        ),
        on_progress=progress,
    )
    if not quiet:
        for remark in _remarks(written):
            sys.stderr.write(f"{remark}\n")
    for path in written.pages:
        sys.stdout.write(f"{path}\n")
    if show:
        sys.stdout.flush()  # before the browser writes anything
        _open(written.pages[0])


def _refuse_without_truth(*, truth_column: str | None, metric: str | None, tolerance: str) -> None:
    """Refuses flags about a truth that nobody gave.

    Raises:
        UsageError: When there is one.
    """
    given = {
        "--truth-column": truth_column,
        "--metric": metric,
        "--tolerance": None if tolerance == "0" else tolerance,
    }
    named = next((flag for flag, value in given.items() if value is not None), None)
    if named is not None:
        raise UsageError(
            f"{named} is about a truth, and there is none.", hint="Give one: --truth KEY or --truth FILE."
        )


def _open(page: Path) -> None:
    """Opens a page in the reader's browser: `webbrowser` finds it, or the variable BROWSER names it."""
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        sys.stderr.write(f"No browser could be started. Open {page} in one; the variable BROWSER names it.\n")


def _remarks(written: Written) -> list[str]:
    remarks = []
    if written.missing:
        remarks.append(
            f"{written.missing:,} of {written.images:,} images are missing; the page says why. "
            "--images DIR says where they are."
        )
    if written.without_prompt:
        remarks.append(
            f"{written.without_prompt:,} of {written.records:,} records have no prompt on the page. "
            "--manifest PATH says where the prompts are."
        )
    return remarks
