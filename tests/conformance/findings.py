"""What a run found about one checkpoint, as plain data that goes to a JSON file and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

PACKAGES = ("torch", "torchvision", "transformers", "tokenizers", "pillow", "numpy", "av", "timm")
"""What a model's answers may hang on."""


def versions() -> dict[str, str]:
    """Versions of this environment's Python and of those `PACKAGES` that are in it."""
    found = {"Python": python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name).split("+")[0]
    return found


@dataclass(slots=True)
class Finding:
    """One checkpoint in one environment."""

    checkpoint: str
    """The name in `tests.tiny`."""
    type: str
    """The config's `model_type`."""
    needs: list[str]
    """Packages that its processor cannot do without."""
    chat_template: bool
    text_alone: bool
    several_images: bool
    videos: bool = False
    """Whether transformers' own chat path takes a list of frames as a video."""
    failure: str = ""
    """Why it could not be loaded; all that follows is empty then."""
    in_flight: bool = False
    shared_prefixes: bool = False
    reason: str = ""
    """The engine's, for the way it runs the model."""
    records: dict[str, int] = field(default_factory=dict)
    """Kind of request -> records compared."""
    tokens: int = 0
    ended_early: int = 0
    """Records that ended by an end token."""
    texts: int = 0
    """Answers whose text is that of transformers' own decoding."""
    other_texts: list[str] = field(default_factory=list)
    """For each answer whose text is another, both."""
    pipeline: str = ""
    """What transformers' own pipeline says to a record: `equal`, what it says instead, or why it does not run."""
    wrong: dict[str, list[str]] = field(default_factory=dict)
    """Kind of request -> for each record that differs or failed, how."""
    versions: dict[str, str] = field(default_factory=versions)
    """Package -> its version there."""

    @property
    def runs(self) -> bool:
        """Whether it loaded and some record was answered as it should be."""
        return not self.failure and sum(map(len, self.wrong.values())) < sum(self.records.values())

    @property
    def text(self) -> bool:
        """Whether every answer's text is that of transformers' own decoding."""
        return self.runs and not self.other_texts and self.texts > 0

    @property
    def exact(self) -> bool:
        """Whether every record of every kind has the tokens that it has alone."""
        return self.runs and not self.wrong


def write_findings(findings: Iterable[Finding], file: Path) -> None:
    """Writes findings in the order of their types."""
    rows = [asdict(f) for f in sorted(findings, key=lambda f: (f.type, f.checkpoint))]
    file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def read_findings(file: Path) -> list[Finding]:
    """Reads what `write_findings` wrote."""
    return [Finding(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
