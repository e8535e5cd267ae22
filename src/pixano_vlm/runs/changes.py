"""What changed between an earlier run and this one, in words: why earlier answers hold no longer. Knows no file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pixano_vlm.outputs.journal import Journal
from pixano_vlm.runs.reconcile import Reconciled

__all__ = ["AT_MOST", "changes", "is_guarded", "what_holds"]

AT_MOST = 10
"""So many answers may be asked again without --force, whatever part of all they are."""
CALIBRATION = " calibration "
"""What parts a run's calibration from its model's fingerprint."""
SHOWN = 60
"""Longest text that is shown of a prompt."""


def is_guarded(found: Reconciled) -> bool:
    """Whether a run would ask so much again that it must be asked for: more than half, and more than `AT_MOST`."""
    return found.lost > AT_MOST and 2 * found.lost > found.earlier


def what_holds(found: Reconciled, old: Journal, new: Journal) -> str:
    """How many earlier answers hold, and why the others do not."""
    causes = changes(old.context, old.facts, new.context, new.facts) or _of_records(found)
    held = found.earlier - found.lost - found.retried
    return f"{held:,} of {found.earlier:,} earlier answers hold: {'; '.join(causes)}"


def _of_records(found: Reconciled) -> list[str]:
    causes = []
    if found.without_image:
        count = found.without_image
        causes.append(
            f"the images of {count:,} {_records(count)} are not there any more (is their folder mounted?)"
        )
    if changed := found.changed - found.without_image:
        causes.append(f"{changed:,} {_records(changed)} changed, or their images did")
    if found.removed:
        causes.append(f"{found.removed:,} {_records(found.removed)} no longer in the manifest")
    return causes


def _records(count: int) -> str:
    return "record" if count == 1 else "records"


def changes(
    old: Mapping[str, Any], old_facts: Mapping[str, Any], new: Mapping[str, Any], new_facts: Mapping[str, Any]
) -> list[str]:
    """What was asked for otherwise, one phrase for each: `temperature was 0, now 0.9`.

    Args:
        old: The context of the earlier run's journal.
        old_facts: Its facts.
        new: The context of this run's.
        new_facts: Its facts.
    """
    found = []
    if old.get("model") != new.get("model"):
        found.append(_was("the model", old.get("model"), new.get("model")))
    elif old.get("fingerprint") != new.get("fingerprint"):
        was, is_now = str(old.get("fingerprint")), str(new.get("fingerprint"))
        only_calibration = was.partition(CALIBRATION)[0] == is_now.partition(CALIBRATION)[0]
        found.append(
            "the calibration changed"
            if only_calibration
            else "the model's weights, class or parameters changed"
        )
    found += _settings(old.get("settings"), new.get("settings"))
    if old.get("run_seed") != new.get("run_seed"):
        found.append(_was("seed", old.get("run_seed"), new.get("run_seed")))
    if old.get("pages") != new.get("pages"):
        found.append(_was("pages", old.get("pages", "first"), new.get("pages", "first")))
    for name in ("prompt", "source"):
        if name in old_facts and old_facts[name] != new_facts.get(name):
            found.append(_was(f"the {name}", old_facts[name], new_facts.get(name)))
    return found


def _settings(old: Any, new: Any) -> list[str]:
    if old == new:
        return []
    try:
        before, now = json.loads(old), json.loads(new)
    except (TypeError, ValueError, RecursionError):  # too long for the journal: kept as a digest
        return ["the settings or the JSON schema changed"]
    found = []
    for name in {**before, **now}:
        was, is_now = before.get(name), now.get(name)
        if was != is_now or json.dumps(was) != json.dumps(is_now):
            found.append("the JSON schema changed" if name == "response_format" else _was(name, was, is_now))
    return found


def _was(name: str, old: Any, new: Any) -> str:
    return f"{name} was {_shown(old)}, now {_shown(new)}"


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, str):
        return str(value)
    text = " ".join(value.split())
    if len(text) > SHOWN:
        text = text[: SHOWN - 3] + "..."
    return f'"{text}"'
