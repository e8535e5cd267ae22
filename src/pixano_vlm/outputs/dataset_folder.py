"""A finished output as a Hugging Face dataset: a folder of Parquet shards with a dataset card.

`datasets.load_dataset(FOLDER)` reads it, and `hf upload` publishes it. The card says which model gave the answers,
with which settings, and what they came to; licenses are for its owner to fill in. The format of the card is that of
the hub: https://huggingface.co/docs/hub/datasets-cards.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pixano_vlm.outputs.forms import Answers, OutputForm, place
from pixano_vlm.outputs.run_file import run_file_path
from pixano_vlm.outputs.shard_names import existing_shards
from pixano_vlm.outputs.shards import write_shards
from pixano_vlm.outputs.tables import parquet_rows

__all__ = ["SHARDS", "dataset_files", "dataset_of", "dataset_rows"]

SHARDS = "data/train-{shard}-of-{shards}.parquet"
"""Where in the folder the shards are: the names by which the hub knows the split."""
_BEGIN, _END = "<!-- pixano-vlm: this part is written by the run -->", "<!-- pixano-vlm: end -->"
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
_CARD = """\
---
# Fill in before it is published: the license under which you may pass on the images' captions.
license: unknown
task_categories:
- image-text-to-text
tags:
- synthetic
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
---

# {name}

What the records are, and what they are for: *fill in*.

| license of | |
|---|---|
| the images | *fill in* |
| the prompts and other columns of the input | *fill in* |
| the model, and what it says of its answers | *fill in* |

{part}
"""


def dataset_of(answers: Answers, path: Path) -> None:
    """A finished output as the folder of a dataset.

    Files of others in the folder stay. Of a card that is there, only the part that a run wrote is written again; one
    without that part is left as it is.
    """
    (path / SHARDS).parent.mkdir(parents=True, exist_ok=True)
    form = OutputForm((".parquet",), "tables:parquet_of", "tables:parquet_rows")
    write_shards(form, answers, path / SHARDS)
    counts: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    for line, _ in answers.rows():  # of the lines: the run file counts what its own run did
        counts[line.status] += 1
        flags.update(line.flags)
    count, card = counts.total(), path / "README.md"
    part = _part(_facts(answers.output), counts, flags)
    if not card.exists():
        size = next((words for most, words in _SIZES if count < most), "10M<n<100M")
        text = _CARD.format(size=size, name=path.stem, part=part)
    else:
        text = card.read_text(encoding="utf-8")
        if _BEGIN not in text:
            return
        text = re.sub(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: part, text, flags=re.DOTALL)
    place(card, lambda temporary: _write(temporary, text))


def dataset_files(path: Path) -> list[Path]:
    """The shards that are there."""
    return existing_shards(path / SHARDS)


def dataset_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Each row of the shards, in order: its record's id, and its values by column as JSON."""
    for shard in existing_shards(path / SHARDS):
        yield from parquet_rows(shard)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _facts(output: Path | None) -> dict[str, Any]:
    """What the run file of the output says; nothing where there is none."""
    try:
        facts = json.loads(run_file_path(output).read_text(encoding="utf-8")) if output is not None else {}
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _part(facts: Mapping[str, Any], counts: Counter[str], flags: Counter[str]) -> str:
    model, versions = facts.get("model") or {}, facts.get("versions") or {}
    rows = {
        "model": model.get("name"),
        "its weights": (model.get("model_params") or {}).get("path") or model.get("path"),
        "revision": (model.get("model_params") or {}).get("revision"),
        "made from": facts.get("manifest"),
        "made on": str(facts.get("end") or "")[:10],
        "made with": " ".join(
            f"{name} {versions[name]}" for name in ("pixano-vlm", "transformers") if name in versions
        ),
        "records": f"{counts.total():,}",
        "failed": f"{counts['error']:,}",
        "flags": ", ".join(f"{name}: {number:,}" for name, number in flags.most_common()),
    }
    table = "\n".join(
        f"| {name} | {_cell(value)} |" for name, value in rows.items() if value not in (None, "")
    )
    settings = json.dumps(facts.get("settings") or {}, indent=2, ensure_ascii=False)
    return (
        f"{_BEGIN}\n## How the answers were made\n\n"
        "The answers, in the column `generated_text`, were generated by a model and may be wrong. A record that\n"
        "failed has none: its `status` is `error`. Images are named, and are not part of this dataset.\n\n"
        f"| | |\n|---|---|\n{table}\n\nSettings:\n\n```json\n{settings}\n```\n{_END}"
    )


def _cell(value: object) -> str:
    return str(value).replace("|", r"\|").replace("\n", " ")
