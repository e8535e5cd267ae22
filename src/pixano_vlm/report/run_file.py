"""What is told of a run in `<output>.run.json`, as far as a reader of the page wants it.

The file may be missing, of an earlier version or of a run that has not ended: then there is less to tell.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pixano_vlm.records.provenance import provenance_path

__all__ = ["RunFile"]


class RunFile:
    """The run file of an output.

    Args:
        output: The outputs file that it stands beside.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        try:
            values = json.loads(provenance_path(output).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            values = None
        self._values: dict[str, Any] = values if isinstance(values, dict) else {}

    def manifest(self) -> Path | None:
        """The manifest that the run read, where it is still to be found."""
        return next(filter(Path.is_file, self._places()), None)

    def pictures(self) -> Path | None:
        """The folder of pictures that the run read in place of a manifest, where it is still to be found."""
        return next(filter(Path.is_dir, self._places()), None)

    def _places(self) -> list[Path]:
        """Where the manifest may be: as it was named, wherever the run was started, or beside the output."""
        named = self._values.get("manifest")
        if not isinstance(named, str) or not named or "\0" in named:
            return []
        folder = self._output.parent
        return [Path(named), folder / named, folder / Path(named).name]

    def rates(self) -> dict[str, float]:
        """Seconds and rates of the run: `seconds`, `records_per_second`, `tokens_per_second`."""
        summary = self._part("summary")
        names = ("seconds", "records_per_second", "tokens_per_second")
        return {name: summary[name] for name in names if _is_positive(summary.get(name))}

    def facts(self) -> dict[str, str]:
        """What was run, with which settings and versions: names and values for people, in order."""
        model, settings = self._part("model"), self._part("settings")
        facts = {name: model.get(name.lower()) for name in ("Class", "Architecture", "Path")}
        facts |= {"Weights": model.get("dtype"), "Device": model.get("device"), "Engine": model.get("engine")}
        facts |= {name.replace("_", " "): value for name, value in settings.items()}
        facts |= {"Started": self._values.get("start"), "Ended": self._values.get("end")}
        facts["Run"] = self._values.get("ended")
        facts |= {name: self._part("versions").get(name) for name in ("pixano-vlm", "transformers", "torch")}
        facts["Manifest"] = self._values.get("manifest")
        return {name: _shown(value) for name, value in facts.items() if value not in (None, "", [])}

    def _part(self, name: str) -> dict[str, Any]:
        part = self._values.get(name)
        return part if isinstance(part, dict) else {}


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
