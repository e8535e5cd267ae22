"""`pixano-vlm check`: whether an output is what its run wrote, and repairing one that is not.

Imports neither torch nor transformers, unless records are asked again.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixano_vlm.cli.options import Device, Plugin, Traceback
from pixano_vlm.errors import RESUME, UsageError

if TYPE_CHECKING:
    from pixano_vlm.inputs.manifest import Manifest
    from pixano_vlm.runs.check import Checked, Finding
    from pixano_vlm.runs.recorded import Recorded
    from pixano_vlm.runs.repair import Repair

__all__ = ["check"]

SHOWN = 20
"""Findings of one kind that are printed; with --json all are."""


def check(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="What `generate` wrote.")],
    manifest: Annotated[
        list[str] | None,
        typer.Option(
            "--manifest",
            metavar="PATH",
            help="The manifest, where it is not what <output>.run.json names. Repeatable.",
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            metavar="",
            help="Rebuild the journal from the lines, and take out what cannot be proven to be an answer. Says what "
            "it will do and asks, unless --yes is given.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Repair without asking.")] = False,
    reask: Annotated[
        str | None,
        typer.Option(
            "--reask",
            metavar="SHARE",
            help="Ask a random share of the answered records again, such as 1%, and compare.",
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=0, help="Which sample of the records --reask takes.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print JSON: the counts, and every finding.")
    ] = False,
    plugin: Plugin = None,
    device: Device = None,
    traceback: Traceback = False,
) -> None:
    """Check an output: its lines, its journal, its manifest, and the tables and files made from it.

    Names every record whose answer is missing, belongs to another question (stale) or is damaged, and what belongs to
    no record (extra). Changes nothing without --repair.

    Exits with 0 when all is as the run left it, 1 when something was found, 2 on wrong use.
    """
    from pixano_vlm.outputs.run_file import read_run_file
    from pixano_vlm.runs.check import Checked
    from pixano_vlm.runs.recorded import read_recorded

    share = None if reask is None else _share(reask)
    run_file = read_run_file(output)
    recorded = None if run_file is None else read_recorded(run_file)
    checked, shown = Checked(), _Shown(as_json=as_json)
    records = _manifest(recorded, manifest, shown)
    for finding in _findings(output, records, recorded, checked):
        shown.add(finding)
    extra: dict[str, Any] = {}
    if share is not None:
        extra["reasked"] = _reask(output, records, recorded, share, sample, shown, plugin, device)
    if repair:
        extra["repair"] = _repair(output, records, recorded, shown, yes=yes)
    if as_json:
        found = [finding.to_dict() for finding in shown.findings]
        sys.stdout.write(json.dumps({**checked.to_dict(), **extra, "findings": found}, indent=2) + "\n")
    else:
        shown.end(checked)
    if (not checked.ok or shown.counts) and not (repair and extra["repair"]["done"]):
        raise typer.Exit(1)


class _Shown:
    """Findings on the screen: the first of each kind as they come."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()

    def add(self, finding: Finding) -> None:
        self.counts[finding.kind] += 1
        if self.as_json:
            self.findings.append(finding)
        elif self.counts[finding.kind] <= SHOWN:
            self.say(f"{finding.kind}: {finding.place}: {finding.text}")

    def say(self, text: str) -> None:
        (sys.stderr if self.as_json else sys.stdout).write(text + "\n")

    def end(self, checked: Checked) -> None:
        for kind, number in self.counts.items():
            if number > SHOWN:
                self.say(f"{kind}: {number - SHOWN:,} more; --json names them all")
        of = "" if checked.records is None else f" of {checked.records:,}"
        parts = [f"{checked.equal:,}{of} records are as they were written"]
        parts += [f"{number:,} {kind}" for kind, number in self.counts.items()]
        if checked.copies:
            parts.append(f"{checked.copies:,} tables or files beside images compared")
        if checked.unclaimed:
            parts.append(f"{checked.unclaimed:,} lines of a killed run do not count")
        self.say("; ".join(parts) + ".")


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    share = 0.0 if match is None else float(match[1]) / (100 if match[2] else 1)
    if not 0 < share <= 1:
        raise UsageError(f"--reask {text} is not a share.", hint="Write 1% or 0.01, at most 100%.")
    return share


def _manifest(recorded: Recorded | None, names: list[str] | None, shown: _Shown) -> Manifest | None:
    from pixano_vlm.inputs.manifest import Manifest
    from pixano_vlm.inputs.open import open_source

    if recorded is not None:
        try:
            return recorded.manifest(names)
        except UsageError as error:
            shown.say(f"note: {error.message}\nhint: {error.hint}")
            return None
    if names:
        source = open_source(names)
        return Manifest(source.path, rows=source.rows, stream=source.stream, name=source.name)
    shown.say(
        "note: there is no run file that says what was read, so the records are not compared.\n"
        "hint: name the manifest: --manifest FILE"
    )
    return None


def _findings(
    output: Path, records: Manifest | None, recorded: Recorded | None, checked: Checked
) -> Iterator[Finding]:
    from pixano_vlm.outputs.forms import Answers, Lines
    from pixano_vlm.outputs.table_columns import Given
    from pixano_vlm.runs.check import check_output
    from pixano_vlm.runs.check_copies import compare_exports, compare_sidecars

    context = None if recorded is None else dict(recorded.values["context"])
    is_complete = recorded is not None and recorded.is_complete
    yield from check_output(output, records, checked, context=context, is_complete=is_complete)
    # Of an output that is damaged itself, nothing can be made that the others are to be like.
    if recorded is None or not is_complete or checked.found["damaged"] or checked.found["extra"]:
        return
    rows = None if records is None else records.rows
    given = None if rows is None or not rows.kinds else Given(rows.kinds, rows.given)
    exports = [Path(name) for name in recorded.values["exports"]]
    yield from compare_exports(Answers(Lines(output), given, recorded.keys, output), exports, checked)
    if recorded.values["sidecars"] is not None:
        folder = recorded.values["context"]["base_dir"]
        yield from compare_sidecars(output, folder, recorded.values["sidecars"], checked)


def _reask(
    output: Path, records: Manifest | None, recorded: Recorded | None, share: float, sample: int, shown: _Shown,
    plugin: list[str] | None, device: Any,
) -> dict[str, int]:  # fmt: skip
    from dataclasses import asdict

    from pixano_vlm.catalog import create_model
    from pixano_vlm.cli.options import choose_model
    from pixano_vlm.models.deployment import ModelDeploymentConfig
    from pixano_vlm.runs.model import LazyModel
    from pixano_vlm.runs.reask import Reasked, reask

    if records is None or recorded is None:
        raise UsageError("--reask needs the run file and the manifest.", hint="Keep <output>.run.json.")
    deployed = ModelDeploymentConfig(**recorded.values["deployment"])
    model = create_model(choose_model(None, None, plugin, served=deployed, device=device))
    model.limits = records.rules.limits
    reasked = Reasked()
    shown.say(f"loading {model.model_name}")
    with LazyModel(model) as lazy:
        for finding in reask(output, records, lazy.load(), share, reasked, seed=sample):
            shown.add(finding)
    shown.say(f"{reasked.asked:,} records asked again; {reasked.equal:,} answered as before.")
    return asdict(reasked)


def _repair(
    output: Path, records: Manifest | None, recorded: Recorded | None, shown: _Shown, *, yes: bool
) -> dict[str, Any]:
    from dataclasses import asdict

    from pixano_vlm.runs.repair import repair

    if recorded is None or records is None:
        raise UsageError(
            f"{output} cannot be repaired without its run file and its manifest.",
            hint="They are what proves that a line answers a record. Otherwise start again with --overwrite.",
        )
    plan = repair(output, records, recorded, write=False)
    shown.say(_plan(plan, output))
    is_done = plan.is_needed and (yes or (sys.stdin.isatty() and typer.confirm("Repair it?", err=True)))
    if is_done:
        repair(output, records, recorded, write=True)
        shown.say("Repaired." + (f" {RESUME}" if plan.asked_again else ""))
    elif plan.is_needed:
        shown.say("Nothing was changed.\nhint: --yes repairs it without asking")
    return {**asdict(plan), "done": is_done}


def _plan(plan: Repair, output: Path) -> str:
    if not plan.is_needed:
        return "There is nothing to repair."
    parts = [f"keep {_lines(plan.kept)} that the journal vouches for"]
    if plan.moved:
        parts.append(f"put {plan.moved:,} of them back in place")
    if plan.proven:
        parts.append(f"take {_lines(plan.proven)} that can be proven to answer a record")
    if plan.dropped:
        parts.append(f"move {_lines(plan.dropped)} to {output.name}.dropped")
    records = "1 record" if plan.asked_again == 1 else f"{plan.asked_again:,} records"
    text = f"A repair will {', '.join(parts)}; {records} will have no answer."
    return text + ("" if plan.why_not is None else f" Nothing more can be proven: {plan.why_not}.")


def _lines(number: int) -> str:
    return "1 line" if number == 1 else f"{number:,} lines"
