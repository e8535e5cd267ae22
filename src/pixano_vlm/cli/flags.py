"""The flags of a run, each with its help, said once. What is done with them is in `generate.py` and `ask.py`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pixano_vlm.cli.options import complete_model
from pixano_vlm.models.limits import Limits

GENERATION = "How to generate (a manifest line's own values win over these)"
LIMITS = "What a record may open, and how large it may be"
OUTPUT = "Output"
IMAGES = "A folder, images or a table without prompts"
STANDARD = Limits()


class Sidecar(str, Enum):
    """What `--sidecar` admits."""

    txt = "txt"
    json = "json"


class PagesKind(str, Enum):
    """What `--pages` admits."""

    first = "first"
    all = "all"
    each = "each"


Manifest = Annotated[
    list[str],
    typer.Argument(
        metavar="MANIFEST",
        help="What to run: a JSONL, CSV, Parquet or OpenAI Batch file, - for JSONL from standard input; or, "
        "with --prompt, a folder, a glob or pictures.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="A name that `list` shows, a Hugging Face id, or a local folder. With --base-url: its name there.",
        autocompletion=complete_model,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="What to ask about each picture or row. {name}, {stem}, {folder} and the fields of a folder's "
        "metadata.jsonl, or a table's columns, are filled in.",
        rich_help_panel=IMAGES,
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(
        "--prompt-file",
        metavar="FILE",
        help="The same, from a text file.",
        rich_help_panel=IMAGES,
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive",
        metavar="",
        help="Also the pictures of the folders below.",
        rich_help_panel=IMAGES,
    ),
]
OutputPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Where the answers go, one line a record; - is standard output. Default: "
        "<the manifest's stem>.outputs.jsonl in the current folder. Repeat it with a name that ends with .csv, "
        ".parquet or .openai.jsonl to have them in that form, too.",
        rich_help_panel=OUTPUT,
    ),
]
SidecarFlag = Annotated[
    Sidecar | None,
    typer.Option(
        "--sidecar",
        metavar="KIND",
        help="Also write each answer beside its picture: txt (a.txt beside a.jpg) or json. Goes on with an "
        "output that exists; a picture that has its file counts as done.",
        rich_help_panel=OUTPUT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Check every record and image, count tokens, time a few records, estimate the rest; write nothing.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", metavar="", help="Go on with an output that exists.", rich_help_panel=OUTPUT),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        metavar="",
        help="Go on with an output that exists, and do its failed records again.",
        rich_help_panel=OUTPUT,
    ),
]
RetryFlagged = Annotated[
    bool,
    typer.Option(
        "--retry-flagged",
        metavar="",
        help="Ask once more, with other settings, where an answer is cut off, empty, loops or is not the JSON "
        "asked for; and go on with an output that exists.",
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", metavar="", help="Replace an output that exists.", rich_help_panel=OUTPUT),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        metavar="",
        help="With --resume: ask again even where that replaces more than half of the earlier answers.",
        rich_help_panel=OUTPUT,
    ),
]
SummaryJson = Annotated[
    Path | None,
    typer.Option(
        "--summary-json",
        metavar="PATH",
        help="Also write the summary as JSON to this file.",
        rich_help_panel=OUTPUT,
    ),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Only the manifest's first N records.")
]
MaxBatchSize = Annotated[
    int | None,
    typer.Option("--max-batch-size", metavar="N", min=1, help="Most records in the model at a time."),
]
TemplateVariables = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="KEY=VALUE",
        help="A variable of the model's chat template, such as enable_thinking=false. VALUE is JSON, or else text. "
        "Repeatable.",
        rich_help_panel=GENERATION,
    ),
]
JsonSchema = Annotated[
    str | None,
    typer.Option(
        "--json-schema",
        metavar="SCHEMA",
        help="Answer in JSON that follows this schema: a JSON Schema file, a Pydantic class (FILE.py:CLASS), or "
        "the schema itself.",
        rich_help_panel=GENERATION,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        help="The run's seed: every sampled record derives its own from it and its id. Default: 0.",
        rich_help_panel=GENERATION,
    ),
]
ImageRoot = Annotated[
    Path | None,
    typer.Option(
        "--image-root",
        metavar="DIR",
        help="Image paths must lie in this folder, symbolic links followed.",
        rich_help_panel=LIMITS,
    ),
]
PagesFlag = Annotated[
    PagesKind,
    typer.Option(
        "--pages",
        metavar="KIND",
        help="Of an image with several pages (TIFF, PDF, an animation): first, and the answer is flagged; all, as "
        "images of the record; each, as a record of its own. scan.tif#page=2 names one.",
        rich_help_panel=LIMITS,
    ),
]
NoUrls = Annotated[
    bool, typer.Option("--no-urls", metavar="", help="Fetch no image from a URL.", rich_help_panel=LIMITS)
]
AllowPrivateUrls = Annotated[
    bool,
    typer.Option(
        "--allow-private-urls",
        metavar="",
        help="Also fetch from this machine and from private networks.",
        rich_help_panel=LIMITS,
    ),
]
MaxImagePixels = Annotated[
    int,
    typer.Option(
        "--max-image-pixels", metavar="N", min=1, help="Largest image, in pixels.", rich_help_panel=LIMITS
    ),
]
MaxImageBytes = Annotated[
    int,
    typer.Option(
        "--max-image-bytes",
        metavar="N",
        min=1,
        help="Largest image file, in bytes.",
        rich_help_panel=LIMITS,
    ),
]
MaxPromptTokens = Annotated[
    int | None,
    typer.Option(
        "--max-prompt-tokens",
        metavar="N",
        min=1,
        help="Longest prompt, image tokens included; a longer one fails, none is cut. Default: what the "
        "model takes.",
        rich_help_panel=LIMITS,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", metavar="", help="No progress and no summary, errors only.")
]
