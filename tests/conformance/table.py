"""The table of architectures: findings of one run or several -> `docs/models.json` -> `docs/models.md`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import transformers
from tests.conformance.findings import Finding
from tests.conformance.obstacles import OBSTACLES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

DOCS = Path(__file__).parents[2] / "docs"
JSON, MARKDOWN = DOCS / "models.json", DOCS / "models.md"

TYPES = sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
"""Every type of the installed transformers."""

HEAD = """\
# Which models run

The same code runs every architecture of transformers' image-text-to-text mapping, and has no list of their names.
This table says which of them were run, and whether batching left their answers unchanged. It is written by
`python -m tests.conformance write` from what `make test-models` found; do not edit it by hand.

Each type is tested with a small random-weight checkpoint of the real config classes and a real processor, run like
any other model: string and chat prompts, no image, one, two of different sizes, a conversation of three turns
about two images, a batch of mixed records with early ends. **Exact** means that every token of every record was
that of transformers' own `generate` on the record alone, greedy, in float32. Where the two best tokens of an
answer are as good as equal (logits within 0.0001), rounding decides between them; such a record asks for the
tokens before that place.

- **Text**: whether the text of every answer is what transformers' own decoding makes of its tokens (the processor's
  `post_process_image_text_to_text`), after system, assistant and tool turns and begun answers, with string and list
  contents, too. One record per type also goes through `pipeline("image-text-to-text")`; the note says where that
  answers otherwise or does not run. Empty: not compared yet.
- **Batching**: *in flight*, records enter and leave the batch at each step; with *prefixes*, what several prompts
  begin with (an image, a system turn) is computed once. *Static* batches hold records of equal shapes; the note
  says why.
- **Template**: whether the checkpoint tested has a chat template, as the published ones of its type do. Without
  one, the prompt is a string.
- **Images**: how many a record may have; *1, needed* where text alone is refused.
- **Videos**: whether a chat message may hold a video; run with lists of frames, and the tokens are those of
  transformers' `apply_chat_template` and `generate`.
- **torchvision**: whether the processor cannot be built without it (`pip install 'pixano-vlm[torchvision]'`).
- **Notes**: why a type is static: what in its structure rules out batches in flight, or what went wrong when they
  were tried. Models whose structure allows them are tried when they are loaded, with a few prompts, against their
  own `generate`: first with a *shared prefill*, which computes several prompts in one call and their common
  beginnings once; if that fails, with a *whole prefill*, which computes each prompt by itself, from its first
  token; last with a *whole prefill with its images*, where images are encoded in the same call instead of apart. The
  note has the failure of the last. `pixano-vlm load` shows which of them a model runs with.
"""


TAIL = """
## Adapters

`--adapter PATH`, or `adapter: PATH` in a config, puts a PEFT adapter (LoRA and its kin) over any model above; PATH
is its folder or its Hugging Face id. Needs `pip install 'pixano-vlm[peft]'`. The adapter is merged into the
weights when the model is loaded, so that it costs nothing per token; over quantized weights it is kept beside
them. Only safetensors are read, and an adapter that has a weight without a place in the model is refused. Several
adapters over one base are several entries of a [config file](cli.md#models-of-your-own), each a model with a name
and a fingerprint of its own: when a run is resumed, what was answered under another adapter is asked again.

## Weights in fewer bits

| `quantization` | by | scales | on |
|---|---|---|---|
| `int8` | torchao, weights alone | one for each output | CPU, GPU |
| `int4` | bitsandbytes, NF4 | one for each 64 weights | CPU, GPU |

`quantization` is a [parameter](engines.md#transformers) of a config; both kinds need
`pip install 'pixano-vlm[quantization]'`. Embeddings and the output layer stay as they are. `pixano-vlm load` shows
the bytes that the weights take, and those that they would take unquantized: for the shape of SmolVLM-256M in
bfloat16, 513 MB become 316 MB with `int8` and 228 MB with `int4` (torch 2.13, CPU). A record's answer still does
not depend on its batch, but it differs from the unquantized model's. A checkpoint that is quantized already is
loaded as it is, by the package that it names.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One type."""

    runs: bool
    exact: bool
    in_flight: bool = False
    shared_prefixes: bool = False
    chat_template: bool = False
    several_images: bool = False
    text_alone: bool = False
    torchvision: bool = False
    videos: bool = False
    text: bool | None = None
    """Whether the text is equal too; None where that was not compared."""
    records: int = 0
    tokens: int = 0
    note: str = ""


CLAIMS = (
    "runs",
    "exact",
    "in_flight",
    "shared_prefixes",
    "chat_template",
    "several_images",
    "text_alone",
    "torchvision",
    "videos",
    "text",
)
"""What a row says of a type that another run must find too."""


@dataclass(frozen=True, slots=True)
class Table:
    """All types, by name."""

    transformers: str
    rows: dict[str, Row]
    versions: dict[str, str] = field(default_factory=dict)
    """Package -> the version, or versions, with which the types were run."""

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Table:
        """The table of what was found, with the obstacle of each type that was not run."""
        by_type: dict[str, list[Finding]] = {}
        versions: dict[str, dict[str, None]] = {}
        for finding in findings:
            for package, version in finding.versions.items():
                versions.setdefault(package, {})[version] = None
            by_type.setdefault(finding.type, []).append(finding)
        rows = {
            name: _row(by_type[name])
            if name in by_type
            else Row(runs=False, exact=False, note=OBSTACLES.get(name, "not run"))
            for name in TYPES
        }
        made_with = {package: " and ".join(found) for package, found in versions.items()}
        return cls(transformers.__version__, rows, made_with)

    @classmethod
    def read(cls) -> Table:
        """The table in `docs/models.json`."""
        held = json.loads(JSON.read_text(encoding="utf-8"))
        rows = {name: Row(**row) for name, row in held["types"].items()}
        return cls(held["transformers"], rows, held["versions"])

    @property
    def totals(self) -> str:
        """One sentence of counts."""
        rows = self.rows.values()
        flying = sum(row.in_flight for row in rows)
        return (
            f"Of the {len(self.rows)} types in transformers {self.transformers}, "
            f"{sum(row.runs for row in rows)} run and {sum(row.exact for row in rows)} are exact; "
            f"{flying} are batched in flight, {sum(row.shared_prefixes for row in rows)} of them with shared "
            f"prefixes."
        )

    @property
    def made_with(self) -> str:
        """One sentence of versions."""
        listed = ", ".join(f"{package} {version}" for package, version in sorted(self.versions.items()))
        return f"Made with {listed}."

    def differences(self, other: Table) -> list[str]:
        """What the two claim otherwise, by type. Counts of tokens hang on the torch build's rounding: no claims."""
        found = []
        for name in sorted(self.rows.keys() | other.rows.keys()):
            mine, theirs = self.rows.get(name), other.rows.get(name)
            if mine is None or theirs is None:
                found.append(f"{name} {'is new' if theirs is None else 'is gone'}")
                continue
            found += [
                f"{name}: {claim} was {getattr(theirs, claim)}, is {getattr(mine, claim)}"
                for claim in CLAIMS
                if getattr(mine, claim) != getattr(theirs, claim)
            ]
        return found

    def to_json(self) -> str:
        """What `docs/models.json` holds."""
        held = {
            "transformers": self.transformers,
            "versions": dict(sorted(self.versions.items())),
            "types": {name: asdict(row) for name, row in sorted(self.rows.items())},
        }
        return json.dumps(held, indent=1) + "\n"

    def to_markdown(self) -> str:
        """What `docs/models.md` holds."""
        lines = [
            HEAD,
            self.totals,
            self.made_with,
            "CI runs a part of the same checks on the lowest supported versions and on those that pip resolves today",
            "(`make test-lowest`, `make test-today`).",
            "",
            "| Type | Runs | Exact | Text | Batching | Template | Images | Videos | torchvision | Notes |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(f"| {name} | {' | '.join(_cells(row))} |" for name, row in sorted(self.rows.items())),
            TAIL.rstrip("\n"),
        ]
        return "\n".join(lines) + "\n"


def write_table(table: Table) -> None:
    """Writes both files."""
    JSON.write_text(table.to_json(), encoding="utf-8")
    MARKDOWN.write_text(table.to_markdown(), encoding="utf-8")


def _row(findings: list[Finding]) -> Row:
    """One type from all its checkpoints in all environments: what holds for each of them."""
    return Row(
        runs=all(f.runs for f in findings),
        exact=all(f.exact for f in findings),
        in_flight=all(f.in_flight for f in findings),
        shared_prefixes=all(f.shared_prefixes for f in findings),
        chat_template=all(f.chat_template for f in findings),
        several_images=all(f.several_images for f in findings),
        text_alone=all(f.text_alone for f in findings),
        torchvision=all("torchvision" in f.needs for f in findings),
        videos=any(f.videos for f in findings),
        text=all(f.text for f in findings),
        records=sum(sum(f.records.values()) for f in findings),
        tokens=sum(f.tokens for f in findings),
        note=_note(findings),
    )


def _note(findings: list[Finding]) -> str:
    notes = []
    for finding in findings:
        if finding.failure:
            notes.append(f"{finding.checkpoint}: {finding.failure}")
        elif finding.wrong:
            count = sum(map(len, finding.wrong.values()))
            notes.append(f"{count} of {sum(finding.records.values())} records differ ({finding.checkpoint})")
        if finding.pipeline not in ("", "equal"):
            notes.append(f"the pipeline {_of_pipeline(finding.pipeline)}")
        if not finding.failure and not finding.in_flight:
            notes.append(f"static: {finding.reason}")
    names = sorted({finding.checkpoint for finding in findings})
    if len(names) > 1:
        notes.append(f"as {' and '.join(names)}")
    others = sorted({need for f in findings for need in f.needs} - {"torchvision"})
    if others:
        notes.append(f"needs {', '.join(others)}")
    return "; ".join(dict.fromkeys(notes))


def _of_pipeline(found: str) -> str:
    return found if found.startswith("does not run") else "answers otherwise"


def _cells(row: Row) -> list[str]:
    if not row.runs:
        return ["no", "", "", "", "", "", "", "", row.note]
    batching = ("in flight, prefixes" if row.shared_prefixes else "in flight") if row.in_flight else "static"
    images = "several" if row.several_images else "1"
    return [
        "yes",
        "yes" if row.exact else "**no**",
        "" if row.text is None else "yes" if row.text else "**no**",
        batching,
        "yes" if row.chat_template else "",
        images if row.text_alone else f"{images}, needed",
        "yes" if row.videos else "",
        "needed" if row.torchvision else "",
        row.note.replace("|", "\\|"),
    ]
