"""What `<output>.run.json` says of a run, as far as a reader of the page wants it.

The file may be missing, of an earlier version or of a run that has not ended: then there is less to say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixano_vlm.errors import MissingPackageError, UsageError
from pixano_vlm.inputs.naming import Naming
from pixano_vlm.inputs.open import Source, open_source, read_share
from pixano_vlm.inputs.template import Template
from pixano_vlm.outputs.run_file import run_file_path

__all__ = ["ShownRun"]


class ShownRun:
    """What the run file of an output says, read leniently.

    Args:
        output: The outputs file beside it.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        try:
            values = json.loads(run_file_path(output).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            values = None
        self._values: dict[str, Any] = values if isinstance(values, dict) else {}

    def source(self) -> Source | None:
        """What the run read, opened again with its prompt, where it is still to be found."""
        found = map(self._open, self._places())
        return next((source for source in found if source is not None), None)

    def source_at(self, path: Path) -> Source:
        """The same, at a place that is given; it may bring prompts of its own.

        Raises:
            ManifestError: When it is missing, or is not a manifest.
        """
        return self._open([str(path)]) or open_source([str(path)])

    def image_folder(self) -> Path | None:
        """The folder of images that the run read, where it still exists, though its prompt does not."""
        folders = [Path(*names) for names in self._places() if len(names) == 1]
        return next(filter(Path.is_dir, folders), None)

    def _places(self) -> list[list[str]]:
        """Where the manifest may be: under its name, from here or from the output's folder, or beside the output."""
        names = self._asked().get("manifest")
        if not isinstance(names, list) or not all(isinstance(name, str) and _is_name(name) for name in names):
            return []
        folder = self._output.parent
        return [
            names,
            [str(folder / name) for name in names],
            [str(folder / Path(name).name) for name in names],
        ]

    def _asked(self) -> dict[str, Any]:
        """What was named as the manifest, and how it was read."""
        asked = self._part("settings").get("source")
        return asked if isinstance(asked, dict) else {"manifest": [self._values.get("manifest")]}

    def _open(self, names: Sequence[str]) -> Source | None:
        prompt = self._asked().get("prompt")
        template = None
        with suppress(UsageError):
            template = Template(prompt) if isinstance(prompt, str) else None
        # MissingPackageError is not a UsageError: a Parquet file, and pyarrow is not installed here.
        with suppress(UsageError, MissingPackageError, OSError):
            asked = self._asked()
            images, shard = asked.get("image_columns"), asked.get("shard")
            return open_source(
                names,
                template,
                recursive=asked.get("recursive") is True,
                naming=Naming(
                    tuple(images) if isinstance(images, list) else (),
                    asked.get("prompt_column"),
                    asked.get("id_column"),
                ),
                share=read_share(shard) if isinstance(shard, str) else None,
            )
        return None

    def rates(self) -> dict[str, float]:
        """Seconds and rates of the run: `seconds`, `records_per_second`, `tokens_per_second`."""
        summary = self._part("summary")
        names = ("seconds", "records_per_second", "tokens_per_second")
        return {name: summary[name] for name in names if _is_positive(summary.get(name))}

    def properties(self) -> dict[str, str]:
        """What was run, with which settings and versions: names and values for people, in order."""
        model = self._part("model")
        settings = {name: value for name, value in self._part("settings").items() if name != "source"}
        properties = {name: model.get(name.lower()) for name in ("Class", "Architecture", "Path")}
        properties |= {
            "Weights": model.get("dtype"),
            "Device": model.get("device"),
            "Engine": model.get("engine"),
        }
        properties |= {name.replace("_", " "): value for name, value in settings.items()}
        properties |= {"Started": self._values.get("start"), "Ended": self._values.get("end")}
        properties["Run"] = self._values.get("ended")
        properties |= {
            name: self._part("versions").get(name) for name in ("pixano-vlm", "transformers", "torch")
        }
        properties["Manifest"] = self._values.get("manifest")
        properties["Prompt"] = self._asked().get("prompt")
        return {name: _shown(value) for name, value in properties.items() if value not in (None, "", [])}

    def _part(self, name: str) -> dict[str, Any]:
        part = self._values.get(name)
        return part if isinstance(part, dict) else {}


def _is_name(text: str) -> bool:
    return bool(text) and "\0" not in text and text != "-"


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
