"""What a report reads: outputs, run files, prompts; and that it changes none of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from tests.report.runs import Folder, answer

from pixano_vlm.errors import ManifestError, UsageError
from pixano_vlm.inputs.open import open_source
from pixano_vlm.report.answers import OutputFile
from pixano_vlm.report.pairing import pairs, verdicts
from pixano_vlm.report.prompts import Message, Prompts
from pixano_vlm.report.shown_run import ShownRun

Data = Callable[[Path], dict[str, Any]]

Ask = Callable[[Path], Prompts]


@pytest.fixture
def prompts_of() -> Iterator[Ask]:
    """The prompts of a manifest, closed at the end."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(closing(Prompts(open_source([str(path)]))))


class TestOutputs:
    def test_totals_count_what_the_lines_say(self, folder: Folder) -> None:
        path = folder.run("a", [answer("1"), answer("2", None), answer("3", "", flags=["empty"])])
        totals = OutputFile(path).totals
        assert (totals.records, totals.ok, totals.flagged) == (3, 2, 1)
        assert (totals.prompt_tokens, totals.completion_tokens) == (60, 8)
        assert totals.models == {"fake": 3}

    def test_a_line_that_cannot_be_read_is_a_record_that_says_so(self, folder: Folder) -> None:
        path = folder.run("a", [answer("1")])
        path.write_bytes(path.read_bytes() + b'{"id": \n\xff\xfe\n[1]\n{"id": 7, "status": "ok"}\n')
        lines = [line for _, line in OutputFile(path)]
        assert [line.id for line in lines] == ["1", "line 2", "line 3", "line 4", "line 5"]
        assert all(line.error and line.error.type == "UnreadableLine" for line in lines[1:])

    def test_a_last_line_that_is_still_being_written_is_left_out(self, folder: Folder) -> None:
        path = folder.run("a", [answer("1"), answer("2")])
        path.write_bytes(path.read_bytes()[:-30])
        assert [line.id for _, line in OutputFile(path)] == ["1"]

    def test_keys_of_later_versions_are_carried_along(self, folder: Folder) -> None:
        path = folder.run("a", [answer("1", mood={"kind": "cat"})])
        ((_, line),) = OutputFile(path)
        assert line.model_extra == {"mood": {"kind": "cat"}}

    def test_a_file_that_is_not_an_output_is_refused(self, folder: Folder) -> None:
        with pytest.raises(UsageError, match="not an output"):
            OutputFile(folder.lines("manifest.jsonl", [{"prompt": "What is this?"}]))
        with pytest.raises(UsageError, match="no output"):
            OutputFile(folder.path / "nothing.jsonl")
        with pytest.raises(UsageError, match="folder"):
            OutputFile(folder.path)


class TestPairing:
    def test_records_are_paired_by_id_whatever_their_order(self, folder: Folder) -> None:
        one = OutputFile(folder.run("a", [answer("1"), answer("2"), answer("3")]))
        other = OutputFile(folder.run("b", [answer("4"), answer("2", "a dog"), answer("1")]))
        found = [(pair.id, pair.verdict) for pair in pairs([one, other])]
        assert found == [("1", "same"), ("2", "different"), ("3", "only first"), ("4", "only second")]
        assert verdicts([one, other]) == {"same": 1, "different": 1, "only first": 1, "only second": 1}

    def test_of_records_with_one_id_the_first_goes_with_the_first(self, folder: Folder) -> None:
        one = OutputFile(folder.run("a", [answer("1", "x"), answer("1", None)]))
        other = OutputFile(folder.run("b", [answer("1", "x"), answer("1", None)]))
        assert [pair.verdict for pair in pairs([one, other])] == ["same", "same"]

    def test_failures_of_one_type_are_the_same_and_a_failure_differs_from_an_answer(
        self, folder: Folder
    ) -> None:
        elsewhere = {"type": "ImageError", "message": "in other words"}
        one = OutputFile(folder.run("a", [answer("1", None), answer("2", None)]))
        other = OutputFile(folder.run("b", [answer("1", None, error=elsewhere), answer("2")]))
        assert [pair.verdict for pair in pairs([one, other])] == ["same", "different"]


class TestPrompts:
    def test_a_prompt_is_found_by_id_or_by_line(self, folder: Folder, prompts_of: Ask) -> None:
        path = folder.path / "m.jsonl"
        path.write_text(
            '\ufeff{"prompt": "one"}\n\n{"id": "x", "prompt": "three", "images": "a.jpg"}\n', "utf-8"
        )
        prompts = prompts_of(path)
        (one, three) = (prompts.find("1", 0), prompts.find("x", 0))
        assert one is not None
        assert one.prompt == "one"
        assert three is not None
        assert (three.prompt, three.images) == ("three", ("a.jpg",))
        assert prompts.find("2", 0) is None

    def test_a_conversations_images_are_numbered_in_the_order_it_has_them(
        self, folder: Folder, prompts_of: Ask
    ) -> None:
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "image"}, {"type": "text", "text": "and"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "image"},
            ]},
            {"role": "assistant", "content": None},
        ]  # fmt: skip
        path = folder.lines("m.jsonl", [{"prompt": messages, "images": ["a.jpg", "b.jpg"]}])
        asked = prompts_of(path).find("1", 0)
        assert asked is not None
        assert asked.images == ("a.jpg", "data:image/png;base64,AAAA", "b.jpg")
        assert asked.prompt == (
            Message("system", ("Be brief.",)), Message("user", (0, "and", 1, 2)), Message("assistant", ("",)),
        )  # fmt: skip

    def test_lines_that_were_refused_show_what_can_be_made_out(self, folder: Folder, prompts_of: Ask) -> None:
        path = folder.path / "m.jsonl"
        path.write_text(
            '{"prompt": [{"role": "cook"}]}\n{"prompt": \n{"prompt": "x", "images": [7]}\n', "utf-8"
        )
        prompts = prompts_of(path)
        first, third = prompts.find("1", 0), prompts.find("3", 0)
        assert first is not None
        assert "cook" in str(first.prompt)
        assert prompts.find("2", 0) is None
        assert third is not None
        assert third.prompt == "x"

    def test_lines_of_an_openai_batch_file_show_their_messages(self, folder: Folder, prompts_of: Ask) -> None:
        messages = [{"role": "user", "content": "Who?"}]
        refused = {"messages": messages, "n": 3}
        prompts = prompts_of(
            folder.lines(
                "m.jsonl",
                [
                    {"custom_id": "a", "body": {"messages": messages, "model": "m"}},
                    {"custom_id": "b", "body": refused},
                ],
            )
        )
        for id in ("a", "b"):
            asked = prompts.find(id, 0)
            assert asked is not None
            assert asked.prompt == (Message("user", ("Who?",)),)

    def test_without_a_manifest_the_outputs_own_images_are_shown(self, folder: Folder, data_of: Data) -> None:
        folder.image("a.png")
        page, written = folder.report(folder.run("a", [answer("1", images=["a.png"])]))
        assert written.without_prompt == 1
        assert written.missing == 0
        (record,) = data_of(page)["records"]
        assert "prompt" not in record

    def test_a_manifest_that_is_given_and_missing_is_refused(self, folder: Folder) -> None:
        with pytest.raises(ManifestError, match="no manifest"):
            folder.report(folder.run("a", [answer("1")]), manifest=folder.path / "nothing.jsonl")

    def test_the_same_records_asked_in_other_words_show_both(self, folder: Folder, data_of: Data) -> None:
        one = folder.run("a", [answer("1"), answer("2")], [{"prompt": "What?"}, {"prompt": "Who?"}])
        other = folder.run("b", [answer("1"), answer("2")], [{"prompt": "What is it?"}, {"prompt": "Who?"}])
        page, _ = folder.report(one, other)
        first, second = data_of(page)["records"]
        assert first["prompt"] == "What?"
        assert [one.get("prompt") for one in first["answers"]] == [None, "What is it?"]
        assert all("prompt" not in one for one in second["answers"])


class TestShownRun:
    def test_the_manifest_is_found_beside_the_output_when_both_were_moved(self, folder: Folder) -> None:
        manifest = folder.lines("m.jsonl", [{"prompt": "x"}])
        output = folder.run("a", [answer("1")], manifest="some/folder/m.jsonl")
        source = ShownRun(output).source()
        assert source is not None
        assert source.path == manifest

    def test_properties_are_in_order_and_what_is_not_known_is_left_out(self, folder: Folder) -> None:
        values = {
            "model": {"class": "C", "dtype": "float32"},
            "settings": {"max_new_tokens": 7, "top_p": None},
        }
        summary = {"seconds": 2.5, "records_per_second": 0, "tokens_per_second": 9}
        run = ShownRun(folder.run("a", [answer("1")], **values, summary=summary, ended="complete"))
        assert list(run.properties().items()) == [
            ("Class", "C"), ("Weights", "float32"), ("max new tokens", "7"), ("Run", "complete"),
        ]  # fmt: skip
        assert run.rates() == {"seconds": 2.5, "tokens_per_second": 9}

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"model": 3, "summary": [], "settings": null}', "\0"])
    def test_a_run_file_that_makes_no_sense_says_nothing(self, folder: Folder, text: str) -> None:
        output = folder.run("a", [answer("1")])
        output.with_name("a.jsonl.run.json").write_text(text)
        run = ShownRun(output)
        assert (run.source(), run.rates(), run.properties()) == (None, {}, {})


def test_nothing_that_is_read_is_changed(folder: Folder) -> None:
    output = folder.run("a", [answer("1")], [{"prompt": "x", "images": [folder.image("a.png")]}])
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    page, _ = folder.report(output)
    page.unlink()
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


def test_numbers_that_javascript_would_round_are_text(folder: Folder, data_of: Data) -> None:
    config = {"seed": 2**63 - 1, "top_k": 50, "greedy": True}
    page, _ = folder.report(folder.run("a", [answer("1", generation_config=config)]))
    settings = data_of(page)["records"][0]["answers"][0]["settings"]
    assert json.dumps(settings) == '{"seed": "9223372036854775807", "top_k": 50, "greedy": true}'


def test_of_a_run_over_a_folder_the_images_are_found_in_it(folder: Folder) -> None:
    folder.image("photos/a.png")
    output = folder.run("a", [answer("a", images=["a.png"])], manifest="photos")
    assert folder.report(output)[1].missing == 0
