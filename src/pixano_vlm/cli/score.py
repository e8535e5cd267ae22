"""`pixano-vlm score`: how often answers are right, and which to trust. Imports neither torch nor transformers."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixano_vlm.cli.figures import decimal, interval, percent, with_interval
from pixano_vlm.cli.options import Traceback
from pixano_vlm.cli.score_dataset import is_dataset, score_dataset
from pixano_vlm.cli.tables import print_facts, print_table

if TYPE_CHECKING:
    from pixano_vlm.scoring.intervals import Estimate
    from pixano_vlm.scoring.score import Difference, OutputScore, Scores, Trust

__all__ = ["score"]

TRUST = "Which answers to trust"
MOST_GROUPS = 30
MOST_LABELS = 12


def score(
    outputs: Annotated[
        list[Path],
        typer.Argument(metavar="OUTPUT", help="What `generate` wrote; of two, also the difference."),
    ],
    truth: Annotated[
        str,
        typer.Option(
            "--truth",
            metavar="KEY|FILE",
            help="The right answers: a key of the records' metadata; a JSONL, CSV or Parquet file with ids; for "
            "boxes COCO data; or a Pixano dataset exported after its review.",
        ),
    ],
    truth_column: Annotated[
        str | None,
        typer.Option(
            "--truth-column",
            metavar="NAME",
            help="Which column of the file. Default: truth, or the only one.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="exact, normalised, number, anls, f1, choice or json. Default: what fits the truths.",
        ),
    ] = None,
    tolerance: Annotated[
        str,
        typer.Option(
            "--tolerance", metavar="T", help="How far a number may be off: 0.5, or 5% of the truth."
        ),
    ] = "0",
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="KEY", help="Also each value of this key of the metadata by itself."),
    ] = None,
    accept: Annotated[
        float | None,
        typer.Option(
            "--accept",
            metavar="SHARE",
            help="From which confidence on at least this share of the answers is right, with 95 % certainty: 0.99.",
            rich_help_panel=TRUST,
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="FILE",
            help="Fit a calibration on the first output, for generate --calibration FILE.",
            rich_help_panel=TRUST,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print JSON, with every figure.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Compare answers with the truth: how many are right, and which of them can be trusted.

    Every figure has its 95 % interval. A record that failed is not right; one without a truth is counted and left
    out. Where answers have a confidence: how well it ranks them, whether it is true, and what can be accepted.
    """
    from pixano_vlm.scoring import ScoreOptions, score_outputs
    from pixano_vlm.scoring.metrics import Tolerance

    if is_dataset(truth):
        flags = {
            "--truth-column": truth_column, "--metric": metric, "--by": by, "--accept": accept,
            "--tolerance": None if tolerance == "0" else tolerance, "--calibrate": calibrate,
        }  # fmt: skip
        score_dataset(outputs, Path(truth), flags, as_json=as_json)
        return
    scores = score_outputs(
        ScoreOptions(
            outputs=tuple(outputs),
            truth=truth,
            truth_column=truth_column,
            metric=metric,
            tolerance=Tolerance.read(tolerance),
            by=by,
            accept=accept,
            calibrate=calibrate is not None,
        )
    )
    if calibrate is not None and scores.calibration is not None:
        _write(calibrate, scores.calibration.model_dump_json(indent=2) + "\n")
    if as_json:
        sys.stdout.write(json.dumps(scores.to_dict(), ensure_ascii=False, indent=2) + "\n")
        return
    _print(scores)
    if calibrate is not None:
        sys.stderr.write(f"{calibrate}: written; generate --calibration {calibrate} applies it.\n")


def _write(path: Path, text: str) -> None:
    from pixano_vlm.errors import OutputError

    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def _print(scores: Scores) -> None:
    why = "chosen by the truths; --metric NAME for another" if scores.is_chosen else "as asked"
    sys.stdout.write(f"metric: {scores.metric} ({why}): {scores.says}\n")
    for one in scores.outputs:
        sys.stdout.write("\n")
        _print_output(one, scores)
    if scores.difference is not None:
        sys.stdout.write("\n")
        print_facts(_difference(scores.difference), title="second output less the first")


def _print_output(one: OutputScore, scores: Scores) -> None:
    facts: dict[str, object] = {
        "output": str(one.path),
        "model": one.model,
        "right" if scores.is_binary else "score": with_interval(one.overall),
        "records": one.overall.n,
        "of these failed (not right)": one.failed,
    }
    if one.without_truth:
        names = ", ".join(one.without_truth_ids)
        more = ", ..." if one.without_truth > len(one.without_truth_ids) else ""
        facts["without a truth (left out)"] = f"{one.without_truth:,}: {names}{more}"
    if one.not_answered:
        facts["truths without a record"] = one.not_answered
    print_facts(facts)
    _print_estimates(f"by {scores.by}", one.by)
    _print_estimates("field", one.fields)
    _print_confusion(one.confusion)
    if one.trust is not None:
        _print_trust(one.trust, scores)


def _print_estimates(name: str, found: dict[str, Estimate]) -> None:
    if not found:
        return
    rows = [(key, percent(one.value), interval(one), f"{one.n:,}") for key, one in found.items()]
    sys.stdout.write("\n")
    print_table((name, "right", "95 % interval", "records"), rows[:MOST_GROUPS])
    if len(rows) > MOST_GROUPS:
        sys.stdout.write(f"and {len(rows) - MOST_GROUPS:,} more; --json has them all\n")


def _print_confusion(confusion: dict[str, dict[str, int]]) -> None:
    if not confusion:
        return
    labels = list(confusion)[:MOST_LABELS]
    columns = [
        *labels,
        *sorted({given for row in confusion.values() for given in row if given.startswith("(")}),
    ]
    rows = [(label, *(f"{confusion[label].get(column, 0):,}" for column in columns)) for label in labels]
    sys.stdout.write("\n")
    print_table(("truth \\ answer", *columns), rows)
    if len(confusion) > MOST_LABELS:
        sys.stdout.write(f"and {len(confusion) - MOST_LABELS:,} more labels; --json has them all\n")


def _print_trust(trust: Trust, scores: Scores) -> None:
    facts: dict[str, object] = {"answers with a confidence": trust.n}
    if trust.without:
        facts["without one"] = trust.without
    facts["AUROC"] = decimal(trust.auroc)
    facts["expected calibration error"] = decimal(trust.calibration_error)
    facts["area under accuracy against coverage"] = decimal(trust.area)
    if not scores.is_binary:
        facts["counted as right"] = "from 0.5 on"
    sys.stdout.write("\n")
    print_facts(facts)
    sys.stdout.write("\n")
    print_table(
        ("most confident", "confidence from", "right", "95 % interval"),
        [
            (percent(row.share), f"{row.threshold:.4f}", percent(row.right.value), interval(row.right))
            for row in trust.coverage
        ],
    )
    kept = trust.accepted
    if kept is None:
        return
    wanted = percent(kept.wanted)
    if kept.threshold is None:
        text = (
            f"accept nothing: no threshold has {wanted} right with 95 % certainty. More records with a truth, or a "
            "lower share, may have one."
        )
    else:
        text = (
            f"accept confidence >= {kept.threshold!r}: {kept.n:,} of {kept.of:,} records ({percent(kept.share)}); "
            f"with 95 % certainty at least {wanted} of such answers are right (here {kept.right:,} of {kept.n:,})"
        )
    sys.stdout.write(f"\n{text}\n")


def _difference(found: Difference) -> dict[str, object]:
    one = found.difference
    facts: dict[str, object] = {
        "records in both": found.n,
        "difference": f"{one.value:+.1%} ({one.low:+.1%} to {one.high:+.1%})",
        "became right": found.gained,
        "became wrong": found.lost,
    }
    if not math.isnan(found.p):
        facts["McNemar's p"] = found.p
    return facts
