"""An output, a journal and a run file that somebody made to do harm: read, and reported in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from pixano_vlm.outputs import journal as journals
from pixano_vlm.outputs.journal import HEADER_BYTES, SLOT_BYTES, Slot, pack
from pixano_vlm.outputs.jsonl import journal_path

DEEP = "[" * 100_000
ESCAPES = "\x1b[2J\x1b]0;owned\x07"
COMMANDS = {
    "moved": ["check", "answers.jsonl", "--manifest", "moved.jsonl"],
    "resume of moved records": [
        "generate", "moved.jsonl", "--plugin", "plugin.py", "--model", "echo", "-o", "answers.jsonl", "-o",
        "answers.csv", "--resume",
    ],
    "check": ["check", "answers.jsonl"],
    "repair": ["check", "answers.jsonl", "--repair", "--yes"],
    "report": ["report", "answers.jsonl"],
    "score": ["score", "answers.jsonl", "--truth", "label"],
    "resume": [
        "generate", "manifest.jsonl", "--plugin", "plugin.py", "--model", "echo", "-o", "answers.jsonl", "--resume",
    ],
}  # fmt: skip


def slot(folder: Path, **changes: Any) -> None:
    """Changes a slot of the journal, which stays one with a right checksum."""
    path = journal_path(folder / "answers.jsonl")
    data = bytearray(path.read_bytes())
    found = journals.unpack(bytes(data[HEADER_BYTES : HEADER_BYTES + SLOT_BYTES]))
    assert isinstance(found, Slot)
    data[HEADER_BYTES : HEADER_BYTES + SLOT_BYTES] = pack(found._replace(**changes))
    path.write_bytes(data)


def header(folder: Path, text: str) -> None:
    """Replaces the header of the journal."""
    path = journal_path(folder / "answers.jsonl")
    path.write_bytes(text.encode()[:HEADER_BYTES].ljust(HEADER_BYTES) + path.read_bytes()[HEADER_BYTES:])


def line(folder: Path, text: str) -> None:
    """Replaces the second line of the output."""
    path = folder / "answers.jsonl"
    lines = path.read_text("utf-8").splitlines()
    lines[1] = text
    path.write_text("\n".join(lines) + "\n", "utf-8")


def proven(folder: Path, text: str) -> None:
    """Replaces the second line of the output, with a slot that vouches for it."""
    path = journal_path(folder / "answers.jsonl")
    data = bytearray(path.read_bytes())
    start = HEADER_BYTES + SLOT_BYTES
    found = journals.unpack(bytes(data[start : start + SLOT_BYTES]))
    assert isinstance(found, Slot)
    lines, end = folder / "answers.jsonl", (folder / "answers.jsonl").stat().st_size
    with lines.open("ab") as file:
        file.write(text.encode() + b"\n")
    whole = text.encode() + b"\n"
    data[start : start + SLOT_BYTES] = pack(
        found._replace(offset=end, length=len(whole), line_crc=crc32(whole))
    )
    path.write_bytes(data)


def changed(folder: Path, **values: Any) -> str:
    """The second line of the output with other values."""
    whole = json.loads((folder / "answers.jsonl").read_text("utf-8").splitlines()[1])
    return json.dumps({**whole, **values})


HARM: dict[str, Callable[[Path], None]] = {
    "a line that is nested without end": lambda folder: line(folder, DEEP),
    "a value that is nested without end": lambda folder: line(
        folder, changed(folder, metadata=0).replace('"metadata": 0', f'"metadata": {DEEP}')
    ),
    "a line that is a list": lambda folder: line(folder, "[1, 2]"),
    "a line without its keys": lambda folder: line(folder, "{}"),
    "values of other types": lambda folder: line(
        folder,
        json.dumps(dict.fromkeys(["id", "status", "generated_text", "usage", "images", "flags", "error"], 5)),
    ),
    "an id of another type": lambda folder: line(folder, changed(folder, id={"a": [1]})),
    "images of another type": lambda folder: line(folder, changed(folder, images={"a": 1})),
    "confidence that is a text": lambda folder: line(folder, changed(folder, confidence="high")),
    "confidence that is no number": lambda folder: line(
        folder, changed(folder, confidence=0).replace('"confidence": 0', '"confidence": NaN')
    ),
    "an integer of 5,000 digits": lambda folder: line(
        folder, changed(folder, metadata=0).replace('"metadata": 0', '"metadata": {"n": ' + "9" * 5000 + "}")
    ),
    "control characters in an id": lambda folder: line(folder, changed(folder, id=ESCAPES)),
    "bytes that are not UTF-8": lambda folder: (
        (folder / "answers.jsonl").write_bytes(b"\xff\xfe\n" + (folder / "answers.jsonl").read_bytes())
        and None
    ),
    "a line with a right checksum that is nested without end": lambda folder: proven(folder, DEEP),
    "a value with a right checksum that is nested without end": lambda folder: proven(
        folder, changed(folder, metadata=0).replace('"metadata": 0', f'"metadata": {DEEP}')
    ),
    "a line with a right checksum that is a number": lambda folder: proven(folder, "5"),
    "a line with a right checksum without its keys": lambda folder: proven(folder, "{}"),
    "a line with a right checksum and an id of another type": lambda folder: proven(
        folder, changed(folder, id=[1], images=7, metadata=[])
    ),
    "a header that is nested without end": lambda folder: header(folder, DEEP),
    "a header without a context": lambda folder: header(folder, json.dumps({"format": journals.FORMAT})),
    "a context of another type": lambda folder: header(
        folder, json.dumps({"format": journals.FORMAT, "context": 5, "facts": 6})
    ),
    "settings that are nested without end": lambda folder: header(
        folder, json.dumps({"format": journals.FORMAT, "context": {"settings": DEEP[:3500]}, "facts": {}})
    ),
    "a slot of 4 GiB": lambda folder: slot(folder, length=2**32 - 1),
    "a slot past the end of all files": lambda folder: slot(folder, offset=2**64 - 1),
    "a slot with all flags": lambda folder: slot(folder, flags=2**32 - 1),
    "a slot of a line past all lines": lambda folder: slot(folder, number=2**32 - 1),
    "a run file that is nested without end": lambda folder: (
        (folder / "answers.jsonl.run.json").write_text(DEEP) and None
    ),
    "a run file with other types": lambda folder: (
        (folder / "answers.jsonl.run.json").write_text(
            json.dumps(
                dict.fromkeys(["command", "model", "settings", "inputs", "exports", "earlier", "source"], 5)
            )
        )
        and None
    ),
    "replaced lines that are nested without end": lambda folder: (
        (folder / "answers.jsonl.replaced.jsonl").write_text(DEEP + "\n") and None
    ),
}

PLUGIN = """
from pixano_vlm import UsageInfo, VLMModel, VLMOutput, register_model
@register_model("echo")
class Echo(VLMModel):
    def load_model(self):
        pass
    def predict(self, input):
        return VLMOutput(generated_text=str(input.prompt), finish_reason="stop",
                         usage=UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a finished run, which the first test makes."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]) -> Path:
    if not (made / "answers.jsonl").exists():
        monkeypatch.chdir(made)
        lines = [{"prompt": f"q{n}", "id": f"r{n}", "label": f"q{n}"} for n in range(3)]
        Path("manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        lines = [{**line, "id": f"new {line['id']}"} for line in reversed(lines)]
        Path("moved.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        Path("plugin.py").write_text(PLUGIN)
        assert cli(*COMMANDS["resume"][:-1]).code == 0
    for path in made.iterdir():
        if path.is_file():
            shutil.copy2(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("harm", HARM)
def test_it_is_read_and_reported_in_words(
    harm: str, command: str, folder: Path, cli: Callable[..., Any]
) -> None:
    HARM[harm](folder)
    ran = cli(*COMMANDS[command])
    said = ran.out + ran.err
    assert ran.code in {0, 1, 2, 3}
    assert "this is a fault" not in said
    assert "Traceback" not in said
    assert "\x1b[2J" not in said
