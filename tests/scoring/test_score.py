"""`pixano-vlm score` on outputs that the tests write: what is counted, what is named, and what is printed."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from pixano_vlm.cli import app
from pixano_vlm.errors import UsageError
from pixano_vlm.scoring import ScoreOptions, score_outputs


def line(id, text, **more):
    status = "ok" if text is not None else "error"
    return {"id": id, "status": status, "generated_text": text, "metadata": {}, "model": "m", **more}


def write(path, lines):
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


@pytest.fixture
def output(tmp_path):
    return write(
        tmp_path / "answers.jsonl",
        [
            line("a", "A cat.", metadata={"label": "cat", "kind": "x"}, confidence=0.9),
            line("b", "dog", metadata={"label": "dog", "kind": "x"}, confidence=0.8),
            line("c", "dog", metadata={"label": "cat", "kind": "y"}, confidence=0.3),
            line("d", None, metadata={"label": "cat", "kind": "y"}),
            line("e", "cat"),
        ],
    )


def score(output, truth="label", **options):
    outputs = output if isinstance(output, tuple) else (output,)
    return score_outputs(ScoreOptions(outputs=outputs, truth=str(truth), **options))


def test_a_failed_record_is_not_right_and_one_without_truth_is_left_out_by_name(output):
    found = score(output, metric="choice", by="kind").outputs[0]
    assert (found.overall.value, found.overall.n, found.failed) == (0.5, 4, 1)
    assert (found.without_truth, found.without_truth_ids) == (1, ["e"])
    assert {name: (one.value, one.n) for name, one in found.by.items()} == {"x": (1.0, 2), "y": (0.0, 2)}
    assert found.confusion == {"cat": {"cat": 1, "dog": 1, "(failed)": 1}, "dog": {"dog": 1}}
    assert (found.trust.n, found.trust.without, found.trust.auroc) == (3, 0, 1.0)


def test_what_is_accepted_is_a_share_of_all_records(tmp_path):
    lines = [line(str(n), "yes", metadata={"t": "yes"}, confidence=0.9 + n / 10_000) for n in range(100)]
    lines += [line(str(n), None, metadata={"t": "yes"}) for n in range(100, 200)]
    kept = score(write(tmp_path / "o.jsonl", lines), "t", accept=0.9).outputs[0].trust.accepted
    assert (kept.threshold, kept.n, kept.share) == (0.9, 100, 0.5)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "t.jsonl",
            '{"id": "a", "truth": ["a cat", "cat"]}\n\n{"id": "b", "truth": "cow"}\n{"id": "z", "truth": 1}\n',
        ),
        ("t.csv", 'id,width,truth\na,1,"[""a cat"", ""cat""]"\nb,2,cow\nz,3,1\n'),
        ("t.tsv", "id\ttruth\na\tcat\nb\tcow\nz\t1\n"),
    ],
)
def test_a_truth_may_be_a_file_with_ids(output, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    found = score(output, tmp_path / name).outputs[0]
    assert (found.overall.value, found.overall.n, found.without_truth, found.not_answered) == (0.5, 2, 3, 1)


def test_a_truth_may_be_a_parquet_file(output, tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        arrow.table({"id": ["a", "b"], "truth": [["cat", "a cat"], ["cow"]]}), tmp_path / "t.parquet"
    )
    assert score(output, tmp_path / "t.parquet").outputs[0].overall.value == 0.5


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("t.jsonl", '{"truth": 1}\n', "has no column id"),
        ("t.jsonl", '{"id": "a", "x": 1, "y": 2}\n', "which column of t.jsonl is the truth"),
        ("t.jsonl", "{\n", r"t\.jsonl:1 is not JSON"),
        ("t.jsonl", "[1]\n", r"t\.jsonl:1 is not a JSON object"),
        ("t.jsonl", '{"id": "a", "truth": 1}\n{"id": "a", "truth": 2}\n', "two truths for id 'a'"),
        ("t.jsonl", "\n", "holds no truth"),
        ("t.csv", 'id,truth\na,"b"c\n', r"t\.csv:2: not CSV"),
        ("t.jsonl", '{"id": "q", "truth": 1}\n', "no record of .* has a truth"),
    ],
)
def test_a_file_that_tells_no_truth_is_refused_by_name(output, tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=why):
        score(output, tmp_path / name)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"truth": "lable"}, "no record of .* has a truth in lable"),
        ({"truth": "no.csv"}, "there is no truth no.csv"),
        ({"metric": "bleu"}, "there is no metric 'bleu'"),
        ({"accept": 99}, "--accept 99 is not a share"),
    ],
)
def test_what_cannot_be_scored_is_refused(output, options, why):
    with pytest.raises(UsageError, match=why):
        score(output, **options)


def test_accept_needs_confidences(tmp_path):
    lines = [line("a", "x", metadata={"label": "x"})]
    with pytest.raises(UsageError, match="no answer has a confidence"):
        score(write(tmp_path / "o.jsonl", lines), accept=0.9)


def test_another_file_is_not_an_output_and_half_a_line_is_one_that_is_being_written(output, tmp_path):
    with pytest.raises(UsageError, match=r"bad\.jsonl:1 is not a line of an output"):
        score(write(tmp_path / "bad.jsonl", [{"x": 1}]))
    with output.open("a") as file:
        file.write('{"id": "f", "sta')
    assert score(output).outputs[0].overall.n == 4


def test_two_outputs_are_matched_by_id(output, tmp_path):
    after = write(
        tmp_path / "after.jsonl",
        [
            line("d", "cat", metadata={"label": "cat"}),
            line("c", "cat", metadata={"label": "cat"}),
            line("b", "cow", metadata={"label": "dog"}),
            line("y", "cow", metadata={"label": "dog"}),
        ],
    )
    found = score((output, after)).difference
    assert (found.n, found.gained, found.lost) == (3, 2, 1)
    assert found.difference.value == pytest.approx(1 / 3)
    assert found.p == 1.0


def test_each_field_of_json_has_its_accuracy(tmp_path):
    lines = [
        line("a", "{}", parsed={"a": 1, "b": {"c": "x"}}, metadata={"t": {"a": 1, "b": {"c": "x"}}}),
        line("b", "{}", parsed={"a": 1, "b": {"c": "y"}}, metadata={"t": {"a": 1, "b": {"c": "x"}}}),
        line("c", None, metadata={"t": {"a": 1, "b": {"c": "x"}}}),
    ]
    found = score(write(tmp_path / "o.jsonl", lines), "t")
    assert found.metric == "json"
    assert found.outputs[0].overall.value == pytest.approx(1 / 3)
    assert {name: round(one.value, 3) for name, one in found.outputs[0].fields.items()} == {
        "a": 0.667,
        "b.c": 0.333,
    }


def test_a_calibration_is_fitted_on_what_the_engine_gave(tmp_path):
    lines = []
    for n in range(200):
        raw = 0.5 + n / 400
        text = "x" if n % 10 < n / 20 else "y"
        lines.append(line(str(n), text, metadata={"t": "x"}, confidence=0.5, raw_confidence=raw))
    fitted = score(write(tmp_path / "o.jsonl", lines), "t", calibrate=True).calibration
    assert (fitted.n, fitted.model) == (200, "m")
    assert fitted.slope > 0.5


def test_the_command_prints_tables_or_json_and_writes_the_calibration(tmp_path):
    lines = [
        line(str(n), "x" if n % 10 < n / 20 else "y", metadata={"t": "x"}, confidence=0.5 + n / 400)
        for n in range(200)
    ]
    output, fitted = write(tmp_path / "o.jsonl", lines), tmp_path / "c.json"
    asked = ["score", str(output), "--truth", "t", "--accept", "0.9", "--calibrate", str(fitted)]
    shown = CliRunner().invoke(app, asked)
    assert shown.exit_code == 0, shown.output
    assert "metric: normalised (chosen by the truths" in shown.output
    assert "AUROC" in shown.output
    assert "accept " in shown.output
    assert json.loads(fitted.read_text())["calibration"] == 1
    printed = CliRunner().invoke(app, [*asked, "--json"])
    found = json.loads(printed.stdout)
    assert found["outputs"][0]["score"]["n"] == 200
    assert set(found["outputs"][0]["confidence"]) >= {
        "auroc",
        "expected_calibration_error",
        "coverage",
        "accept",
    }


def test_without_the_extra_the_message_says_how_to_install_it(output, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(Exception, match=r"pip install 'pixano-vlm\[score\]'"):
        score(output)
