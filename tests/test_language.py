"""The language of pages, help, models' descriptions and source: plain technical English, and what each rule allows.

The rules are about words that read as if translated, or mean something else in this field. Code, quoted words and
the list of modules, which is made of docstrings, are left out. Of the source, all string literals are held to them,
so that no message is missed, and so are docstrings and comments.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from pixano_vlm.cli import app

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src" / "pixano_vlm"
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *REPOSITORY.glob("examples/**/*.md")]
)
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # a group

RULES = {
    r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b)": '"is not a ...", not "is no ..."',
    r"\b(?:goes|going|gone|went|go) on\b(?! (?:to|a|the|standard|stderr|stdout)\b)": '"continue" or "resume"',
    r"\banew\b": '"again"',
    r"\b(?:done|do|does|did) (?:it |them |those |him )?again\b": '"ask again" or "retry"',
    r"\bin place of\b": '"instead of"',
    r"\bpictures?\b": '"image"; a picture is one of the drawn ones of the demo',
    r"\blicen[c]es?\b": '"license"',
    r"\b(?:one|an?) (?:answer|record|object|row|line|model|token|file|id|column) a "
    r"(?:line|record|token|row|second|step|worker|model|page|id)\b": '"per" for rates',
    r"\b(?:records|tokens|ms|MB|bytes|KB|steps) an? (?:second|token|step|record|layer|id|worker|file|parameter)\b": (
        '"per" for rates'
    ),
    r"\btells (?:of|what|how|why|you)\b": '"says", "reports" or "prints"',
    r"\bstands? (?:at|beside|in|behind|there|together|empty|for the)\b": '"is", "lives in" or "contains"',
    r"\bin[- ]flight batching\b": '"continuous batching", or "continuous (in-flight) batching"',
    r"\bshared beginnings?\b": '"prefix"',
    r"\bdoubts\b": '"quality flags"',
    r"\bsimply\b": "nothing",
    r"\butili[sz]e": '"use"',
}
"""What is not written, as a pattern, and what is written instead."""

ANY = re.compile("|".join(f"(?:{pattern})" for pattern in RULES), re.IGNORECASE)

DEMO = re.compile(r"\b(?:drawn|demo|shapes|24|examples?|scenes?|questions?|generated)\b", re.IGNORECASE)
"""A paragraph about the demo, whose images are drawn pictures."""

KEPT = {
    (
        "batching/capabilities.py",
        "Describe this picture",
    ): "a prompt of the probe: other words give other answers",
    ("inputs/dialects/parts.py", "picture"): "a key in other tools' files",
    ("inputs/dialects/turns.py", "Picture"): "a mark of Qwen-VL's files",
    ("inputs/fields.py", "pictures"): "a key in other tools' files",
    ("inputs/names.py", "pictures"): "the default name of an output: another one would lose runs to resume",
    ("models/deployment.py", "licence"): "a key in configs of older versions",
}
"""Words in a file of the source that stay although a rule is against them, and why."""


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The paragraphs of a page with the number of their first line; code and links' targets are left out."""
    text = re.sub(
        r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE
    )
    text = re.sub(r"<!-- modules:.*<!-- end of modules -->", "", text, flags=re.DOTALL)
    number = 1
    for paragraph in re.split(r"(\n\s*\n)", text):
        if paragraph.strip() and not re.match(r" {4}", paragraph):
            words = re.sub(r"`[^`]*`|\"[^\"\n]*\"|\]\([^)]*\)", "`", paragraph)
            yield number, " ".join(words.split())
        number += paragraph.count("\n")


def faults(text: str) -> list[str]:
    """What of a text the rules do not allow, each with its line and what to write."""
    found = []
    for number, paragraph in prose(text):
        for pattern, instead in RULES.items():
            for match in re.finditer(pattern, paragraph, re.IGNORECASE):
                if "picture" in match[0].lower() and DEMO.search(paragraph):
                    continue
                around = paragraph[max(0, match.start() - 30) : match.end() + 20]
                found.append(f"line {number}: ...{around}...: write {instead}")
    return found


def literals(text: str) -> Iterator[tuple[int, str]]:
    """The strings of a module, docstrings too, with their lines; a value inside an f-string is an X."""
    tree = ast.parse(text)
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    pieces = {piece for node in strings for piece in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(p.value) if isinstance(p, ast.Constant) else "X" for p in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in pieces:
            yield node.lineno, node.value


def comments(text: str) -> Iterator[tuple[int, str]]:
    """The comments of a module; one over several lines is one text."""
    first, last, words = 0, -1, ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1:
            yield first, words
            first, words = token.start[0], ""
        last, words = token.start[0], f"{words} {token.string.lstrip('# ')}"
    yield first, words


def source_faults(name: str, text: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """What of a module the rules do not allow, each with the key that would keep it."""
    for line, words in (*literals(text), *comments(text)):
        plain = " ".join(re.sub(r"`[^`\n]*`|\"[^\"\n]*\"", "`", words).split())
        for pattern, instead in RULES.items() if ANY.search(plain) else ():
            for match in re.finditer(pattern, plain, re.IGNORECASE):
                if "picture" in match[0].lower() and name.startswith("shapes/"):
                    continue  # the demo's pictures are drawn
                around = plain[max(0, match.start() - 30) : match.end() + 20]
                kept = next((key for key in KEPT if key[0] == name and key[1] in around), ("", ""))
                yield f"{name}:{line}: ...{around}...: write {instead}", kept


def test_the_source_is_written_in_plain_terms_and_every_exception_is_needed() -> None:
    found, used = [], set()
    for file in sorted(SOURCE.rglob("*.py")):
        for fault, kept in source_faults(
            file.relative_to(SOURCE).as_posix(), file.read_text(encoding="utf-8")
        ):
            used.add(kept)
            found += [fault] if kept not in KEPT else []
    assert found == []
    assert used == set(KEPT)


@pytest.mark.parametrize(
    "text",
    [
        'raise E("this is " "no file")',
        'raise E(f"{name} is no file of {folder}")',
        "raise E(f\"{x if x else 'it is no file'}\")",
        'def f():\n    """It is\n    no file."""',
        "# it is\n# no file",
        "x = 1  # asked anew",
    ],
)
def test_a_rule_is_held_in_source(text: str) -> None:
    assert len(list(source_faults("a.py", text))) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_a_page_is_written_in_plain_terms(page: Path) -> None:
    assert faults(page.read_text(encoding="utf-8")) == []


def test_what_list_says_of_the_models_is_written_in_plain_terms() -> None:
    texts = [file.read_text(encoding="utf-8") for file in sorted((REPOSITORY / "configs").glob("*.yaml"))]
    assert len(texts) > 10
    assert [
        fault for text in texts for fault in faults(text.replace("license:", "").replace("\n", "\n\n"))
    ] == []


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_help_is_written_in_plain_terms(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(app, [*command.split(), "--help"]).output
    assert "Usage" in shown
    lines = [line.strip(" │╭╮╰╯─") for line in shown.splitlines()]
    text = "\n\n".join(line for line in lines if not line.startswith("pixano-vlm "))
    assert faults(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "There is no fault here: it is not a picture of the demo's.",
        "`--resume` goes with `anew` in code, and one line per record.",
        "The demo has 24 drawn pictures.",
        "    a picture anew in a block of code",
        "It is no longer there. Continuous (in-flight) batching.",
    ],
)
def test_a_rule_allows(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "It is no file.",
        "The run goes on where it stopped.",
        "It is asked anew.",
        "Lost records are done again.",
        "Used in place of it.",
        "A caption beside each picture.",
        "The licence of the weights.",
        "One JSON object a line, one answer a record.",
        "24 records a second.",
        "What the page tells of them: it tells what.",
        "The row stands empty.",
        "In-flight batching.",
        "Shared beginnings.",
    ],
)
def test_a_rule_refuses(text: str) -> None:
    assert faults(text) != []
