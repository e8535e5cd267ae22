"""`generate --json-schema`, and a record's own `response_format`: what goes in, and where the value comes out."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("jsonschema")
pytest.importorskip("llguidance")

ECHO = ("--model", "echo", "--plugin", str(Path(__file__).parent / "plugin.py"))
COUNT = {
    "type": "object",
    "properties": {"count": {"type": "integer", "minimum": 1, "maximum": 9}, "kind": {"enum": ["circle", "square"]}},
    "required": ["count", "kind"],
    "additionalProperties": False,
}  # fmt: skip
CLASSES = """
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field


class Count(BaseModel):
    count: int = Field(ge=1, le=9)
    kind: Literal["circle", "square"]


@dataclass
class Plain:
    count: int


class Open(BaseModel, extra="allow"):
    inner: list[Count]


class Nothing:
    pass


broken = object()
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("count.json").write_text(json.dumps(COUNT))
    Path("answers.py").write_text(CLASSES)


def write(records: list[dict[str, Any]], name: str = "m.jsonl") -> None:
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))


def lines(name: str = "m.outputs.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


class TestFlag:
    @pytest.mark.parametrize("spec", ["count.json", "answers.py:Count"])
    def test_a_file_or_a_class_is_what_every_record_is_asked_for(
        self, cli: Callable[..., Any], spec: str
    ) -> None:
        write([{"prompt": '{"count": 3, "kind": "circle"}'}, {"prompt": "three"}])
        ran = cli("generate", "m.jsonl", *ECHO, "--json-schema", spec)
        assert ran.code == 0
        assert [(line["parsed"], line["flags"]) for line in lines()] == [
            ({"count": 3, "kind": "circle"}, []), (None, ["invalid_json"]),
        ]  # fmt: skip
        assert "flagged invalid_json" in ran.err
        asked = lines()[0]["generation_config"]["response_format"]
        assert asked["type"] == "json_schema"
        assert asked["json_schema"]["name"] == ("count" if spec == "count.json" else "Count")
        assert list(asked["json_schema"]["schema"]["properties"]) == ["count", "kind"]
        said = json.loads(Path("m.outputs.jsonl.run.json").read_text())
        assert said["settings"]["response_format"] == asked

    def test_a_whole_response_format_and_a_dataclass_do_too(self, cli: Callable[..., Any]) -> None:
        write([{"prompt": '{"count": 3}'}])
        Path("object.json").write_text('{"type": "json_object"}')
        for spec in ("object.json", "answers.py:Plain", '{"required": ["count"]}'):
            assert cli("generate", "m.jsonl", *ECHO, "--json-schema", spec, "--overwrite").code == 0
            assert (lines()[0]["parsed"], lines()[0]["flags"]) == ({"count": 3}, [])

    def test_a_class_has_no_room_for_keys_that_it_does_not_name_unless_it_says_so(self) -> None:
        from pixano_vlm.cli.json_schema import read_json_schema

        schema = read_json_schema("answers.py:Count")["json_schema"]["schema"]
        assert schema["additionalProperties"] is False
        schema = read_json_schema("answers.py:Open")["json_schema"]["schema"]
        assert schema["additionalProperties"] is True
        assert schema["$defs"]["Count"]["additionalProperties"] is False
        assert "additionalProperties" not in read_json_schema('{"type": "object"}')["json_schema"]["schema"]

    def test_a_records_own_wins(self, cli: Callable[..., Any]) -> None:
        number = {"type": "json_schema", "json_schema": {"schema": {"type": "integer"}}}
        write(
            [
                {"prompt": "3", "response_format": number},
                {"prompt": "free", "response_format": {"type": "text"}},
                {"prompt": "free", "response_format": None},
                {"prompt": "x", "response_format": {"type": "json"}},
            ]
        )
        assert cli("generate", "m.jsonl", *ECHO, "--json-schema", "count.json").code == 1
        assert [line["flags"] for line in lines()] == [[], [], ["invalid_json"], []]
        assert lines()[0]["parsed"] == 3
        assert "response_format" not in lines()[1]["generation_config"]
        assert "m.jsonl:4: response_format has the type 'json'; types are" in lines()[3]["error"]["message"]

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ("none.json", "there is no JSON schema none.json"),
            ("answers.py", "Name the class in it: answers.py:CLASS"),
            ("answers.py:Missing", "answers.py has no Missing"),
            ("answers.py:Nothing", "Pydantic knows no such type"),
            ("answers.py:broken", "Pydantic knows no such type"),
            ("nowhere.py:Count", "there is no file nowhere.py"),
            ("no_such_module:Count", "there is no module 'no_such_module'"),
            ("list.json", "it must be an object"),
            ("bad.json", "--json-schema bad.json has an unusable schema, at properties.a.type: 'text' is not a type"),
            ("torn.json", "torn.json is not JSON, at line 1"),
            ('{"type": ', "--json-schema is not JSON, at line 1"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_said_before_anything_is_loaded(
        self, cli: Callable[..., Any], spec: str, said: str
    ) -> None:
        write([{"prompt": "x"}])
        Path("list.json").write_text("[1]")
        Path("torn.json").write_text('{"type": ')
        Path("bad.json").write_text('{"properties": {"a": {"type": "text"}}}')
        ran = cli("generate", "m.jsonl", *ECHO, "--json-schema", spec)
        assert ran.code == 2
        assert said in ran.err
        assert "--plugin" not in ran.err
        assert "Traceback" not in ran.err
        assert not Path("m.outputs.jsonl").exists()

    def test_a_missing_package_is_said_with_what_installs_it(
        self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write([{"prompt": "x"}])
        monkeypatch.setattr("pixano_vlm.prompts.response_format.PACKAGES", ("no_such_package",))
        ran = cli("generate", "m.jsonl", *ECHO, "--json-schema", "count.json")
        assert ran.code == 3
        assert "pip install 'pixano-vlm[json]'" in ran.err
        write([{"prompt": "x"}, {"prompt": "x", "response_format": {"type": "json_object"}}])
        ran = cli("generate", "m.jsonl", *ECHO)
        assert ran.code == 3
        assert "m.jsonl:2 asks for an answer in JSON, which needs no_such_package" in ran.err


class TestForms:
    RECORDS = ({"prompt": '{"count": 3, "kind": "circle"}'}, {"prompt": "three"})

    def test_the_value_stands_in_every_form_of_the_output(self, cli: Callable[..., Any]) -> None:
        pandas = pytest.importorskip("pandas")
        chat = pytest.importorskip("openai.types.chat")
        write(list(self.RECORDS))
        outputs = ("-o", "a.jsonl", "-o", "a.csv", "-o", "a.parquet", "-o", "a.openai.jsonl")
        assert cli("generate", "m.jsonl", *ECHO, "--json-schema", "count.json", *outputs).code == 0
        value = {"count": 3, "kind": "circle"}
        with Path("a.csv").open(newline="") as file:
            first, second = csv.DictReader(file)
        assert json.loads(first["parsed"]) == value
        assert (second["parsed"], second["flags"]) == ("", '["invalid_json"]')
        frame = pandas.read_parquet("a.parquet")
        assert json.loads(frame["parsed"][0]) == value
        assert frame["parsed"].isna().tolist() == [False, True]
        message = lines("a.openai.jsonl")[0]["response"]["body"]["choices"][0]["message"]
        assert message["parsed"] == value
        completion = chat.ParsedChatCompletion.model_validate(lines("a.openai.jsonl")[0]["response"]["body"])
        assert completion.choices[0].message.parsed == value
        plain = chat.ChatCompletion.model_validate(lines("a.openai.jsonl")[1]["response"]["body"])
        assert plain.choices[0].message.content == "three"

    def test_a_sidecar_of_json_holds_it(self, cli: Callable[..., Any]) -> None:
        Image.new("RGB", (8, 8)).save("a.jpg")
        ask = ("--prompt", '{{"count": 3, "kind": "circle"}}', "--json-schema", "count.json")
        assert cli("generate", "a.jpg", *ECHO, *ask, "--sidecar", "json").code == 0
        assert json.loads(Path("a.json").read_text())["parsed"] == {"count": 3, "kind": "circle"}

    def test_a_table_and_a_batch_file_ask_in_their_own_way(self, cli: Callable[..., Any]) -> None:
        parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}
        with Path("t.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["prompt", "response_format"], ["3", json.dumps(asked)], ["x", ""]])
        parquet.write_table(
            arrow.table({"prompt": ["3", "x"], "response_format": [json.dumps(asked), None]}), "t.parquet"
        )
        bodies = [{"messages": [{"role": "user", "content": "3"}], "response_format": asked} for _ in "ab"]
        bodies[1]["response_format"] = {"type": "text"}
        write([{"custom_id": f"r{n}", "body": body} for n, body in enumerate(bodies)], "t.jsonl")
        for name in ("t.csv", "t.parquet", "t.jsonl"):
            assert cli("generate", name, *ECHO, "--overwrite").code == 0
            asked_for = [
                line["generation_config"].get("response_format") for line in lines("t.outputs.jsonl")
            ]
            assert asked_for == [asked, None], name


def test_a_schema_that_the_engine_cannot_enforce_is_refused_before_the_model_is_loaded(
    cli: Callable[..., Any],
) -> None:
    write([{"prompt": "x"}])
    Path("set.json").write_text('{"properties": {"a": {"type": "array", "uniqueItems": true}}}')
    ran = cli("generate", "m.jsonl", "--model", "shapes", "--json-schema", "set.json")
    assert ran.code == 2
    assert "the JSON schema cannot be enforced, at properties.a: Unimplemented keys" in ran.err
    assert "loading" not in ran.err
    assert not Path("m.outputs.jsonl").exists()


def test_the_embedded_model_answers_in_json_and_other_schemas_are_asked_again(
    cli: Callable[..., Any], repository: Path
) -> None:
    pictures = sorted((repository / "examples" / "shapes" / "images").glob("*.jpg"))[:2]
    write([{"prompt": "How many?", "images": [str(picture)], "temperature": 0} for picture in pictures])
    run = ("generate", "m.jsonl", "--model", "shapes", "--json-schema")
    assert cli(*run, "answers.py:Count").code == 0
    import jsonschema

    for line in lines():
        jsonschema.validate(json.loads(line["generated_text"]), COUNT)
        assert line["parsed"] == json.loads(line["generated_text"])
        assert line["generation_config"]["response_format"] == "json_schema"
        assert line["flags"] == []
    assert "nothing is left to do" in cli(*run, "answers.py:Count", "--resume").err
    Path("other.json").write_text(
        '{"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3}'
    )
    assert cli(*run, "other.json", "--resume").code == 0
    assert all(isinstance(line["parsed"], list) for line in lines())


class TestConcise:
    def test_a_line_of_fields_is_the_schema_of_the_run(self, cli: Callable[..., Any]) -> None:
        write([{"prompt": '{"caption": "a cat", "count": 2}'}])
        ran = cli("generate", "m.jsonl", *ECHO, "--concise-schema", "caption, count int", "-o", "a.csv")
        assert ran.code == 0, ran.err
        with Path("a.csv").open(encoding="utf-8-sig", newline="") as file:
            (row,) = csv.DictReader(file)
        assert (row["caption"], row["count"]) == ("a cat", "2")

    def test_what_is_wrong_in_it_is_said_before_anything_starts(self, cli: Callable[..., Any]) -> None:
        write([{"prompt": "a"}])
        ran = cli("generate", "m.jsonl", *ECHO, "--concise-schema", "count itn")
        assert ran.code == 2
        assert "--concise-schema: count: there is no type 'itn'" in ran.err
        assert "hint: Did you mean 'int'?" in ran.err
        both = cli("generate", "m.jsonl", *ECHO, "--concise-schema", "a", "--json-schema", "count.json")
        assert (both.code, "both give a schema" in both.err) == (2, True)

    def test_where_a_file_is_wanted_the_right_flag_is_named(self, cli: Callable[..., Any]) -> None:
        write([{"prompt": "a"}])
        ran = cli("generate", "m.jsonl", *ECHO, "--json-schema", "caption, count int")
        assert 'Did you mean --concise-schema "caption, count int"?' in ran.err
