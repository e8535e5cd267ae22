"""The documentation is true: its commands parse, its flags exist, its files are there, its arrows hold."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pixano_vlm.cli import app
from pixano_vlm.models import VLMInput, VLMOutput
from pixano_vlm.models.generation import settings_used
from pixano_vlm.records.output_line import render
from pixano_vlm.records.request import Request
from pixano_vlm.records.result import Result

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src" / "pixano_vlm"
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), *REPOSITORY.glob("examples/**/*.md")]
)

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
        assert f"\n## {name}\n" in (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize(("name", "option"), FLAGS, ids=[f"{n}{o.opts[0]}" for n, o in FLAGS])
    def test_a_flag_has_help_and_stands_in_its_commands_chapter(self, name: str, option: Any) -> None:
        assert option.help
        chapters = re.split(
            r"^## ", (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        (chapter,) = [chapter for chapter in chapters if chapter.startswith(f"{name}\n")]
        for flag in option.opts:
            if flag not in {"--help", "-h"}:
                assert re.search(rf"`{re.escape(flag)}[` ]", chapter), (
                    f"{flag} is not in docs/cli.md under {name}"
                )

    @pytest.mark.parametrize(("name", "option"), NUMBERS, ids=[f"{n}{o.opts[0]}" for n, o in NUMBERS])
    def test_a_flags_number_is_the_one_said(self, name: str, option: Any) -> None:
        text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
        (row,) = re.findall(rf"^\| `{option.opts[0]} .*$", text, re.MULTILINE)
        assert re.search(rf"by default {option.default}\b", row), f"{name} {row}"

    @pytest.mark.parametrize("name", COMMANDS)
    def test_a_chapter_has_no_flag_that_does_not_exist(self, name: str) -> None:
        text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
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
        text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
            file = document.parent / target if target else document
            assert file.exists(), f"{document.name} links to {target}"
            assert not heading or heading in headings(file), f"{document.name} links to {target}#{heading}"

    def test_the_readme_leads_to_every_page(self) -> None:
        text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
        for page in (REPOSITORY / "docs").glob("*.md"):
            assert f"](docs/{page.name})" in text, page.name

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

        text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        (tmp_path / "my.yaml").write_text(block)
        assert load_catalog([tmp_path / "my.yaml"]).get("my-captioner") is not None

    def test_the_schema_and_the_class_in_the_documentation_ask_for_the_same(self, tmp_path: Path) -> None:
        from pixano_vlm.cli.json_schema import check_settings, read_json_schema
        from pixano_vlm.models import GenerationSettings

        text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
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
        (made,) = re.findall(r"^make ([a-z -]+?)(?: 2>&1 .*)?$", script, re.MULTILINE)
        text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
        (said,) = re.findall(r"^ {4}bash \.ci/run +# what CI runs: (.+)$", text, re.MULTILINE)
        assert re.split(r", | and ", said) == made.split()

    def test_no_document_holds_a_path_of_some_machine(self) -> None:
        for document in DOCUMENTS:
            assert not re.search(r"/(work|home|root|Users)/", document.read_text(encoding="utf-8")), (
                document.name
            )


def headings(page: Path) -> set[str]:
    """Those of a page, as links name them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def readmes_lines() -> list[dict[str, Any]]:
    """The lines of JSON in the README: a manifest's, and one of an output."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    return [json.loads(line) for block in blocks for line in block.splitlines()]
