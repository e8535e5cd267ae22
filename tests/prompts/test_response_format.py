"""What a record's `response_format` may be, and when an answer counts as following it."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import FakeModel, run

from pixano_vlm.errors import MissingPackageError
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.inputs.preflight import check_manifest_keys
from pixano_vlm.models import GenerationSettings, UsageInfo, VLMInput, VLMOutput
from pixano_vlm.prompts.response_format import (
    PACKAGES,
    check_response_format,
    follows,
    missing_packages,
    parse_json,
)
from pixano_vlm.runs.flags import flags_of, other_settings

pytest.importorskip("jsonschema")

GREEDY = GenerationSettings(temperature=0, max_new_tokens=16)
COUNT: dict[str, Any] = {
    "type": "object",
    "properties": {"count": {"type": "integer", "minimum": 1}},
    "required": ["count"],
    "additionalProperties": False,
}


def form(schema: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestForm:
    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("json", "must be an object, not 'json'"),
            ({}, "has the type None; types are json_schema, json_object, text"),
            ({"type": "yaml"}, "has the type 'yaml'"),
            ({"type": "json_schema"}, "has no schema; the form is"),
            (form(True), "has no schema"),
            (form({"type": "strin"}), "at type: 'strin' is not a type; types are array, boolean"),
            (
                form({"properties": {"a": {"items": {"type": "text"}}}}),
                "at properties.a.items.type: 'text' is not a type",
            ),
            (form({"required": "a"}), "at required: 'a' is not of type 'array'"),
            (
                form({"properties": {"a": {"pattern": "("}}}),
                "at properties.a.pattern: '(' is not a 'regex'",
            ),
            (
                form({"anyOf": [{}, {"minimum": "3"}]}),
                "at anyOf.1.minimum: '3' is not of type 'number'",
            ),
            (form({"$schema": 5}), "has an unusable schema: "),
            (form({"pattern": "a{99999999999}"}), "has an unusable schema: OverflowError"),
            (
                form({"$schema": "http://json-schema.org/draft-03/schema#", "extends": 5}),
                "has an unusable schema",
            ),
            (form({"items": {"$ref": "#/$defs/none"}}), "at items.$ref: '#/$defs/none' is not in the schema"),
            (
                form({"items": {"$ref": "http://127.0.0.1:1/s.json"}}),
                "'http://127.0.0.1:1/s.json' is elsewhere, and nothing is fetched",
            ),
        ],
    )
    def test_what_is_wrong_is_told_with_its_place(self, value: object, said: str) -> None:
        with pytest.raises(ValueError, match=r".") as error:
            check_response_format(value)
        assert said in str(error.value)

    @pytest.mark.parametrize(
        "value",
        [
            {"type": "text"},
            {"type": "json_object"},
            form({}),
            form(COUNT),
            form({"$defs": {"a": COUNT}, "items": {"$ref": "#/$defs/a"}}),
            form({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": COUNT}}),
            form({"properties": {"$ref": {"type": "string"}}, "enum": [{"$ref": "no reference"}]}),
            form({"$ref": "#"}),
        ],
    )
    def test_what_is_right_is_taken_as_it_is(self, value: dict[str, Any]) -> None:
        assert check_response_format(value) is value

    def test_a_record_with_an_unusable_schema_says_where_it_is_wrong(self, tmp_path: Path) -> None:
        bad = {"prompt": "x", "id": "a", "response_format": form({"properties": {"b": {"type": "int"}}})}
        (request,) = Manifest(write(tmp_path / "m.jsonl", [bad]))
        assert "m.jsonl:1 (id 'a'): response_format has an unusable schema, at properties.b.type" in str(
            request.error
        )


class TestFollowing:
    @pytest.mark.parametrize("text", ['{"count": 3}', ' {"count":1}\n'])
    def test_an_answer_that_validates_follows(self, text: str) -> None:
        assert follows(text, form(COUNT))

    @pytest.mark.parametrize(
        "text",
        ["", "three", '{"count": 0}', '{"count": 3', '```json\n{"count": 3}\n```', '{"count": NaN}',
         '{"count": 1, "more": 2}', "[" * 100_000],
    )  # fmt: skip
    def test_any_other_does_not(self, text: str) -> None:
        assert not follows(text, form(COUNT))

    def test_any_object_is_an_object(self) -> None:
        assert follows('{"a": [1]}', {"type": "json_object"})
        assert not follows("[1]", {"type": "json_object"})

    def test_a_pattern_that_would_take_years_is_given_up(self) -> None:
        started = time.monotonic()
        follows(json.dumps("a" * 60 + "!"), form({"type": "string", "pattern": r"^(\w+\s?)+$"}))
        assert time.monotonic() - started < 20

    @pytest.mark.parametrize(
        ("text", "schema"),
        [
            ("1", {"$ref": "#"}),
            ("1" + "0" * 400, {"multipleOf": 0.1}),
            ('{"a": 1}', {"$defs": {"k": {}}, "properties": {"a": {"$id": "http://x.org/y", "$ref": "#/$defs/k"}}}),
        ],
    )  # fmt: skip
    def test_a_schema_on_which_the_library_fails_ends_nothing(
        self, text: str, schema: dict[str, Any]
    ) -> None:
        assert not follows(text, check_response_format(form(schema)))

    @pytest.mark.parametrize("text", ["NaN", "1e999", "{", "[" * 100_000, "cat"])
    def test_what_is_not_json_is_nothing(self, text: str) -> None:
        assert parse_json(text) is None


class TestFlag:
    def said(self, text: str, finish: Any = "stop") -> VLMOutput:
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(generated_text=text, usage=usage, finish_reason=finish)

    def test_an_answer_that_does_not_follow_its_schema_is_flagged(self) -> None:
        assert flags_of(self.said('{"count": 3}'), form(COUNT)) == ()
        assert flags_of(self.said('{"count": 0}'), form(COUNT)) == ("invalid_json",)
        assert flags_of(self.said('{"cou', "length"), form(COUNT)) == ("cut_off", "invalid_json")
        assert flags_of(self.said("three")) == ()

    def test_it_is_tried_with_another_seed_or_more_tokens(self) -> None:
        greedy = VLMInput(prompt="x", max_new_tokens=8, temperature=0, response_format=form(COUNT))
        again = other_settings(greedy, ("invalid_json",), 100)
        assert again is not None
        assert (again.temperature, again.seed, again.max_new_tokens) == (0.7, 0, 8)
        sampled = greedy.model_copy(update={"temperature": 1.0, "seed": 4})
        again = other_settings(sampled, ("invalid_json",), 100)
        assert again is not None
        assert (again.temperature, again.seed) == (1.0, 5)
        longer = other_settings(greedy, ("cut_off", "invalid_json"), 100)
        assert longer is not None
        assert (longer.temperature, longer.max_new_tokens) == (0, 16)


class Careless(FakeModel):
    """An engine that enforces nothing: answers with the prompt, in JSON only when it is sampled."""

    def predict(self, input: VLMInput) -> VLMOutput:
        self.asked.append(str(input.prompt))
        text = str(input.prompt) if input.temperature == 0 else '{"count": 5}'
        usage = UsageInfo(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return VLMOutput(generated_text=text, usage=usage, finish_reason="stop")


class TestRun:
    ASKED = GREEDY.model_copy(update={"response_format": form(COUNT)})

    def test_parsed_and_flags_stand_in_the_line_whatever_the_engine_does(self, tmp_path: Path) -> None:
        records = [
            {"prompt": '{"count": 2}'},
            {"prompt": "two"},
            {"prompt": "[1]", "response_format": form({"type": "array"})},
            {"prompt": "free", "response_format": {"type": "text"}},
        ]
        out = tmp_path / "o.jsonl"
        summary = run(write(tmp_path / "m.jsonl", records), out, Careless(), settings=self.ASKED)
        assert [(line["parsed"], line["flags"]) for line in lines(out)] == [
            ({"count": 2}, []), (None, ["invalid_json"]), ([1], []), (None, []),
        ]  # fmt: skip
        assert summary.flags == {"invalid_json": 1}

    def test_a_second_try_mends_it(self, tmp_path: Path) -> None:
        manifest, out = write(tmp_path / "m.jsonl", [{"prompt": "two"}]), tmp_path / "o.jsonl"
        summary = run(manifest, out, Careless(), settings=self.ASKED, retry_flagged=True)
        (line,) = lines(out)
        assert (line["parsed"], line["flags"], line["attempts"]) == ({"count": 5}, [], 2)
        assert summary.retried == 1

    def test_another_schema_is_another_question_when_a_run_is_resumed(self, tmp_path: Path) -> None:
        records = [{"prompt": "one"}, {"prompt": "[1]", "response_format": form({"type": "array"})}]
        manifest, out = write(tmp_path / "m.jsonl", records), tmp_path / "o.jsonl"
        run(manifest, out, Careless(), settings=self.ASKED)
        other = GREEDY.model_copy(update={"response_format": form({"type": "integer"})})
        model = Careless()
        summary = run(manifest, out, model, settings=other, resume=True)
        assert (summary.reused, model.asked) == (1, ["one"])  # the second has a schema of its own
        model = Careless()
        run(manifest, out, model, settings=other, resume=True)
        assert model.asked == []
        for keys in ("ba", "ab"):  # the order of the keys is that of the answer
            swapped = {"type": "object", "properties": {key: {} for key in keys}}
            model = Careless()
            settings = GREEDY.model_copy(update={"response_format": form(swapped)})
            run(manifest, out, model, settings=settings, resume=True)
            assert model.asked == ["one"]


class TestMissingPackages:
    @pytest.fixture
    def missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pixano_vlm.prompts.response_format.PACKAGES", ("jsonschema", "no_such_package"))

    def test_they_are_those_of_the_extra_and_none_that_an_answer_is_judged_by_is_left_out(
        self, repository: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = (repository / "pyproject.toml").read_text(encoding="utf-8")
        (extra,) = re.findall(r"^json = \[(.*?)\]", text, re.MULTILINE)
        assert tuple(re.findall(r'"([a-z]+)', extra)) == PACKAGES
        monkeypatch.setitem(sys.modules, "regex", None)
        assert missing_packages() == ["regex"]

    def test_a_manifest_that_needs_them_is_refused_before_anything_starts(
        self, tmp_path: Path, missing: None
    ) -> None:
        free = {"prompt": "x", "metadata": {"response_format": 1}}
        asks = {"prompt": "x", "response_format": {"type": "json_object"}}
        batch = {"custom_id": "a", "body": {"messages": [], "response_format": {"type": "json_object"}}}
        assert check_manifest_keys(write(tmp_path / "a.jsonl", [free, free])) == 2
        for record in (asks, batch):
            with pytest.raises(MissingPackageError, match=r"m.jsonl:2 .* needs no_such_package") as error:
                check_manifest_keys(write(tmp_path / "m.jsonl", [free, record]))
            assert error.value.hint == "Run: pip install 'pixano-vlm[json]'."

    @pytest.mark.parametrize("package", ["jsonschema", "regex"])
    def test_elsewhere_it_is_the_records_error(
        self, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pixano_vlm.prompts.response_format import _wrong_with

        _wrong_with.cache_clear()
        monkeypatch.setitem(sys.modules, package, None)
        asks = {"prompt": "x", "response_format": form(COUNT)}
        (request,) = Manifest(write(tmp_path / "m.jsonl", [asks]))
        _wrong_with.cache_clear()
        assert f"needs the package {package}. Run: pip install 'pixano-vlm[json]'" in str(request.error)
