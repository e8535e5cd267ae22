"""The flags of a run, each with its help, said once. What is done with them is in `generate.py` and `ask.py`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pixano_vlm.cli.options import complete_model, complete_output
from pixano_vlm.inputs.forms import words
from pixano_vlm.models.limits import Limits
from pixano_vlm.outputs.forms import endings

GENERATION = "How to generate (a manifest line's own values win over these)"
LIMITS = "What a record may open, and how large it may be"
OUTPUT = "Output"
COLUMNS = "Tables and lines that name things otherwise"
IMAGES = "A folder, images or a table without prompts"
STANDARD = Limits()


class Sidecar(str, Enum):
    """What `--sidecar` admits."""

    txt = "txt"
    json = "json"
    yolo = "yolo"


class PagesKind(str, Enum):
    """What `--pages` admits."""

    first = "first"
    all = "all"
    each = "each"


Manifest = Annotated[
    list[str],
    typer.Argument(
        metavar="MANIFEST",
        help=f"What to run: {words()} files, folders or globs of them, or URLs (s3://, gs://, hf://); - for "
        "JSONL from standard input; or, with --prompt, a folder, a glob or images.",
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
        help="What to ask about each image or row. {name}, {stem}, {folder} and the fields of a folder's "
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
        help="Also the images of the folders below.",
        rich_help_panel=IMAGES,
    ),
]
ImageColumn = Annotated[
    list[str] | None,
    typer.Option(
        "--image-column",
        metavar="NAME",
        help="The column of a table, or the key of a line, that names the image; - where none does. Repeat it where "
        "a record has several.",
        rich_help_panel=COLUMNS,
    ),
]
PromptColumn = Annotated[
    str | None,
    typer.Option(
        "--prompt-column", metavar="NAME", help="The one that is the prompt.", rich_help_panel=COLUMNS
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option("--id-column", metavar="NAME", help="The one that is the id.", rich_help_panel=COLUMNS),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only the I-th of N parts, for job arrays: of at least N files every N-th, else every N-th record.",
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system",
        metavar="TEXT",
        help="A system turn for every record: what the model is told before the prompt. A record's own wins.",
    ),
]
WithPrompt = Annotated[
    bool,
    typer.Option(
        "--with-prompt",
        metavar="",
        help="Also write what was asked into each line of the output.",
        rich_help_panel=OUTPUT,
    ),
]
OutputPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Where the answers go, one line per record; - is standard output. Default: "
        "<the manifest's stem>.outputs.jsonl in the current folder. Repeat it with a name that ends with "
        f"{endings()} to have them in that form, too.",
        autocompletion=complete_output,
        rich_help_panel=OUTPUT,
    ),
]
ShardSize = Annotated[
    int | None,
    typer.Option(
        "--shard-size",
        metavar="N",
        min=1,
        help="How many records each file has of an output in shards: -o 'part-{shard}.parquet', or NAME.hf, a "
        "Hugging Face dataset. Default: 100,000.",
        rich_help_panel=OUTPUT,
    ),
]
SidecarFlag = Annotated[
    Sidecar | None,
    typer.Option(
        "--sidecar",
        metavar="KIND",
        help="Also write each answer beside its image: txt (a.txt beside a.jpg), json, or yolo (the boxes of "
        "--regions, a.txt). Resumes an output that exists; an image that has its file counts as done.",
        rich_help_panel=OUTPUT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Check every record and image, count tokens, answer and time a few records, estimate the rest; "
        "write nothing.",
    ),
]
CalibrationFlag = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Write confidences as this file of score --calibrate has them; the engine's own is raw_confidence.",
        rich_help_panel=OUTPUT,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        metavar="",
        help="Resume an output that exists: keep what holds, ask the rest.",
        rich_help_panel=OUTPUT,
    ),
]
RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        metavar="",
        help="Resume an output that exists, and ask its failed records again.",
        rich_help_panel=OUTPUT,
    ),
]
RetryFlagged = Annotated[
    bool,
    typer.Option(
        "--retry-flagged",
        metavar="",
        help="Ask once more, with other settings, where an answer is cut off, empty, loops or is not the JSON "
        "asked for; and resume an output that exists.",
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
ConciseSchema = Annotated[
    str | None,
    typer.Option(
        "--concise-schema",
        metavar="FIELDS",
        help="The same in a line: fields and their types (str, int, float, bool, list, list[int], enum(a|b)), as in "
        "'caption, colours list, count int?'; ? is a value that may be null.",
        rich_help_panel=GENERATION,
    ),
]
FlagBelow = Annotated[
    float | None,
    typer.Option(
        "--flag-below",
        metavar="P",
        min=0,
        max=1,
        help="Flag answers `low_confidence` whose confidence is below this.",
        rich_help_panel=GENERATION,
    ),
]
ChoicesFile = Annotated[
    Path | None,
    typer.Option(
        "--choices-file",
        metavar="FILE",
        help="The labels of --choices, one a line.",
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
    bool,
    typer.Option(
        "--no-urls", metavar="", help="Fetch no image from a URL, or from a store.", rich_help_panel=LIMITS
    ),
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
        help="Largest image or video file, in bytes.",
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
