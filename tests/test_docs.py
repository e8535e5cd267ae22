"""The documentation is true: its commands parse, its flags exist, its files are there, its arrows hold."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

import pixano_vlm
from pixano_vlm.cli import app
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.models.generation import settings_used
from pixano_vlm.records.output_line import VERSION, LineError, LineUsage, OutputLine, render
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
CLI = DOCS / "reference" / "cli.md"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *PAGES, *REPOSITORY.glob("examples/**/*.md")])
LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group


def options(command: Any) -> list[Any]:
    return [parameter for parameter in command.params if parameter.param_type_name == "option"]


FLAGS = [(name, option) for name, command in COMMANDS.items() for option in options(command)]

NUMBERS = [(name, option) for name, option in FLAGS if type(option.default) in (int, float)]


def command_lines(text: str) -> list[str]:
    """Every `pixano-vlm ...` line of a document or docstring, pipes and comments cut off."""
    found = re.findall(r"^\s*(?:\$ |cat \S+ \| )?pixano-vlm (.+)$", text, re.MULTILINE)
    return [re.split(r"\s[|#>]\s", line + " ")[0].rstrip("`. ") for line in found]


def documented_commands() -> list[tuple[str, str]]:
    files = [*DOCUMENTS, *REPOSITORY.glob("examples/*.py")]
    lines = [(file.name, line) for file in files for line in command_lines(file.read_text(encoding="utf-8"))]
    epilogs = [
        (name, line) for name, command in COMMANDS.items() for line in command_lines(command.epilog or "")
    ]
    return lines + epilogs


class TestCommands:
    def test_there_are_documented_command_lines(self) -> None:
        assert len(documented_commands()) > 12

    @pytest.mark.parametrize(("where", "line"), documented_commands())
    def test_a_documented_command_line_parses(self, where: str, line: str) -> None:
        """Its command exists, and so does each of its flags, with a value of the right type."""
        name, *args = shlex.split(line)
        if name.startswith("-"):
            assert name in {"--version", "--help", "--install-completion", "--show-completion"}
            return
        COMMANDS[name].make_context(name, args)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_a_command_has_help_an_example_and_a_chapter(self, name: str) -> None:
        command = COMMANDS[name]
        assert command.help
        assert f"pixano-vlm {name}" in command.epilog
        assert f"\n## {name}\n" in CLI.read_text(encoding="utf-8")

    @pytest.mark.parametrize(("name", "option"), FLAGS, ids=[f"{n}{o.opts[0]}" for n, o in FLAGS])
    def test_a_flag_has_help_and_stands_in_its_commands_chapter(self, name: str, option: Any) -> None:
        assert option.help
        chapters = re.split(r"^## ", CLI.read_text(encoding="utf-8"), flags=re.MULTILINE)
        (chapter,) = [chapter for chapter in chapters if chapter.startswith(f"{name}\n")]
        for flag in option.opts:
            if flag not in {"--help", "-h"}:
                assert re.search(rf"`{re.escape(flag)}[` ]", chapter), (
                    f"{flag} is not in docs/reference/cli.md under {name}"
                )

    @pytest.mark.parametrize(("name", "option"), NUMBERS, ids=[f"{n}{o.opts[0]}" for n, o in NUMBERS])
    def test_a_flags_number_is_the_one_said(self, name: str, option: Any) -> None:
        text = CLI.read_text(encoding="utf-8")
        (row,) = re.findall(rf"^\| `{option.opts[0]} .*$", text, re.MULTILINE)
        assert re.search(rf"by default {option.default}\b", row), f"{name} {row}"

    @pytest.mark.parametrize("name", COMMANDS)
    def test_a_chapter_has_no_flag_that_does_not_exist(self, name: str) -> None:
        text = CLI.read_text(encoding="utf-8")
        (chapter,) = [c for c in re.split(r"^## ", text, flags=re.MULTILINE) if c.startswith(f"{name}\n")]
        known = {flag for option in options(COMMANDS[name]) for flag in option.opts}
        for row in re.findall(r"^\| (`-.+?) \|", chapter, re.MULTILINE):
            for flag in re.findall(r"`(--?[a-z-]+)", row):
                assert flag in known, flag


def test_the_demo_ends_with_three_commands_that_can_be_typed(tmp_path: Path) -> None:
    said = subprocess.run(["make", "next"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^  \.venv/bin/pixano-vlm (.+)$", said, re.MULTILINE)
    assert len(commands) == 3
    for line in commands:
        name, *args = shlex.split(line)
        COMMANDS[name].make_context(name, args)


class TestDocuments:
    @pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
    def test_every_link_leads_somewhere(self, document: Path) -> None:
        for target, heading in links(document):
            file = document.parent / target if target else document
            assert file.exists(), f"{document.name} links to {target}"
            assert not heading or heading in headings(file), f"{document.name} links to {target}#{heading}"

    @pytest.mark.parametrize("start", ["README.md", "docs/index.md", "docs/tutorial.md"])
    def test_links_lead_to_every_page(self, start: str) -> None:
        assert set(PAGES) - reached(REPOSITORY / start) == set()

    def test_the_index_lists_every_page_itself(self) -> None:
        """The site's navigation is made of it."""
        listed = {(DOCS / target).resolve() for target, _ in links(DOCS / "index.md") if target}
        assert set(PAGES) - listed == {DOCS / "index.md"}

    def test_the_list_for_agents_names_every_page_and_none_that_is_not_there(self) -> None:
        listed = {(REPOSITORY / target).resolve() for target, _ in links(REPOSITORY / "llms.txt")}
        assert set(PAGES) - listed == {DOCS / "index.md"}
        assert [path for path in listed if not path.exists()] == []

    def test_the_readmes_lines_of_python_run_as_they_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """In the folder of the examples, with the embedded model; on the first of its records, to be quick."""
        examples = tmp_path / "examples" / "shapes"
        shutil.copytree(REPOSITORY / "examples" / "shapes", examples)
        manifest = examples / "manifest.jsonl"
        first = manifest.read_text(encoding="utf-8").splitlines()[:4]
        manifest.write_text("\n".join(first) + "\n", encoding="utf-8")
        monkeypatch.chdir(tmp_path / "examples")
        text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        assert "from pixano_vlm import generate" in block
        assert len([line for line in block.splitlines() if line]) <= 6
        exec(compile(block, "README.md", "exec"), {})
        printed = capsys.readouterr().out.splitlines()
        answers = [f"{line['id']} {line['metadata']['answer']}" for line in map(json.loads, first)]
        assert sorted(printed[:-1]) == sorted(answers)  # results come as they are done
        assert printed[-1].startswith("4 answers in ")

    def test_the_page_of_python_has_every_public_name_and_its_file(self) -> None:
        page = DOCS / "reference" / "python.md"
        rows = dict(re.findall(r"^\| \[`(\w+)`\]\(([^)]*)\)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert set(rows) == {name for name in pixano_vlm.__all__ if not name.startswith("__")}
        for name, file in rows.items():
            defined = sys.modules[getattr(pixano_vlm, name).__module__].__file__
            assert (page.parent / file).resolve() == Path(str(defined)), name

    def test_every_public_name_says_what_it_is(self) -> None:
        """Its page is made of its docstring and, of a model, of the descriptions of its fields."""
        for name in pixano_vlm.__all__:
            value = getattr(pixano_vlm, name)
            if not name.startswith("__"):
                assert value.__doc__, name
                for field, info in getattr(value, "model_fields", {}).items():
                    assert info.description, f"{name}.{field}"

    def test_the_page_of_the_output_line_has_its_fields_in_their_order_and_its_version(self) -> None:
        text = (DOCS / "reference" / "output-line.md").read_text(encoding="utf-8")
        fields = []
        for name in OutputLine.model_fields:
            inner = {"usage": LineUsage, "error": LineError}.get(name)
            fields += [name, *(f"{name}.{key}" for key in (inner.model_fields if inner else ()))]
        assert re.findall(r"^\| `([a-z_.]+)` \|", text, re.MULTILINE) == fields
        assert re.findall(r"^\| (\d\.\d) \|", text, re.MULTILINE)[-1] == VERSION
        assert f"It is `{VERSION}` now" in text

    def test_the_page_of_installation_has_every_extra(self) -> None:
        project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
        (section,) = re.findall(r"\[project\.optional-dependencies\]\n(.*?)\n\[", project, re.DOTALL)
        extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
        text = (DOCS / "installation.md").read_text(encoding="utf-8")
        rows = "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
        assert set(re.findall(r"`(\w+)`", rows)) == extras

    def test_the_readmes_manifest_lines_are_records(self) -> None:
        asked = [line for line in readmes_lines() if "status" not in line]
        assert len(asked) == 3
        for line in asked:
            settings = {key: value for key, value in line.items() if key in VLMInput.model_fields}
            VLMInput.model_validate({"max_new_tokens": 1, **settings})

    def test_the_readmes_answer_has_the_keys_of_an_output_line_in_their_order(self) -> None:
        (answer,) = [line for line in readmes_lines() if "status" in line]
        asked = VLMInput(prompt="?", max_new_tokens=64, temperature=0)
        output = VLMOutput.model_validate(
            {
                **{key: value for key, value in answer.items() if key in VLMOutput.model_fields},
                "generation_config": settings_used(asked, 64),
            }
        )
        images, metadata = tuple(answer["images"]), answer["metadata"]
        request = Request(0, 1, answer["id"], asked, images, metadata)
        written, _ = render(Result(request, output=output), answer["model"])
        assert json.dumps(json.loads(written)) == json.dumps(answer)

    def test_the_config_file_in_the_documentation_is_read(self, tmp_path: Path) -> None:
        from pixano_vlm.catalog import load_catalog

        text = (DOCS / "reference" / "config-files.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        (tmp_path / "my.yaml").write_text(block)
        assert load_catalog([tmp_path / "my.yaml"]).get("my-captioner") is not None

    def test_the_schema_and_the_class_in_the_documentation_ask_for_the_same(self, tmp_path: Path) -> None:
        from pixano_vlm.cli.json_schema import check_settings, read_json_schema
        from pixano_vlm.models import GenerationSettings

        text = CLI.read_text(encoding="utf-8")
        (chapter,) = re.findall(r"### Answers in JSON\n(.*?)\n### ", text, re.DOTALL)
        for name, language in (("caption.json", "json"), ("answers.py", "python")):
            (block,) = re.findall(rf"```{language}\n(.*?)```", chapter, re.DOTALL)
            (tmp_path / name).write_text(block)
        asked = [read_json_schema(f"{tmp_path}/{spec}") for spec in ("caption.json", "answers.py:Caption")]
        for one in asked:
            check_settings(GenerationSettings(response_format=one), "the documentation")
        one, other = (format["json_schema"]["schema"] for format in asked)
        assert one["properties"].keys() == other["properties"].keys()
        assert one["required"] == other["required"]
        assert one["additionalProperties"] is other["additionalProperties"] is False

    def test_what_the_documents_make_can_be_made(self) -> None:
        """Each `make NAME`, on a line of its own or in a sentence, is a target."""
        targets = set(
            re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        )
        for document in DOCUMENTS:
            for name in re.findall(
                r"(?:^ {4}|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE
            ):
                assert name in targets, f"{document.name}: make {name}"

    def test_contributing_says_what_ci_runs(self) -> None:
        script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
        made = re.findall(r"^make ([a-z -]+?)(?: AND=.*)?(?: 2>&1 .*)?$", script, re.MULTILINE)
        text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
        (said,) = re.findall(r"^ {4}bash \.ci/run +# what CI runs: (.+)$", text, re.MULTILINE)
        first, sets = said.split("; ")
        assert [re.split(r", | and ", part.removesuffix(" without `once`")) for part in (first, sets)] == [
            targets.split() for targets in made
        ]

    def test_what_ci_leaves_out_on_other_versions_is_said_as_pytest_reads_it(self) -> None:
        script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
        (said,) = re.findall(r'AND="(.+)"', script)
        make = ["make", "--dry-run", "--no-print-directory", "test-lowest", f"AND={said}"]
        printed = subprocess.run(make, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
        (chosen,) = re.findall(r'-m "([^"]+)"', printed)
        left_out = {
            node.id for node in ast.walk(ast.parse(chosen, mode="eval")) if isinstance(node, ast.Name)
        }
        markers = re.findall(
            r'^    "(\w+): ', (REPOSITORY / "pyproject.toml").read_text("utf-8"), re.MULTILINE
        )
        assert "once" in left_out
        assert left_out <= set(markers)

    def test_no_document_holds_a_path_of_some_machine(self) -> None:
        for document in DOCUMENTS:
            assert not re.search(r"/(work|home|root|Users)/", document.read_text(encoding="utf-8")), (
                document.name
            )


def links(page: Path) -> list[tuple[str, str]]:
    """Those of a page that stay in the repository: file and heading."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return LINK.findall(text)


def reached(start: Path) -> set[Path]:
    """The documents that links lead to from one, step by step."""
    found, ahead = set[Path](), [start]
    while ahead:
        page = ahead.pop()
        if page not in found:
            found.add(page)
            targets = [
                (page.parent / target).resolve() for target, _ in links(page) if target.endswith(".md")
            ]
            ahead += [target for target in targets if target.exists()]
    return found


def headings(page: Path) -> set[str]:
    """Those of a page, as links name them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def readmes_lines() -> list[dict[str, Any]]:
    """The lines of JSON in the README: a manifest's, and one of an output."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    return [json.loads(line) for block in blocks for line in block.splitlines()]
