"""The truth on a page: what is right, what the confidences are worth, and what an output may have instead of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.report.runs import Folder, answer

from pixano_vlm.errors import MissingPackageError, UsageError
from pixano_vlm.report import TruthOptions, judging

Data = Callable[[Path], dict[str, Any]]

pytestmark = pytest.mark.usefixtures("_statistics")


@pytest.fixture
def _statistics() -> None:
    for module in ("numpy", "scipy", "sklearn"):
        pytest.importorskip(module)


def line(id: str, text: str | None, confidence: Any = None, **values: Any) -> dict[str, Any]:
    return answer(id, text, confidence=confidence, metadata={"truth": "cat"}, **values)


def page_of(folder: Folder, data_of: Data, *outputs: Path, **truth: Any) -> dict[str, Any]:
    return data_of(folder.report(*outputs, truth=TruthOptions(**{"truth": "truth", **truth}))[0])


def test_answers_are_judged_as_score_judges_them(folder: Folder, data_of: Data) -> None:
    lines = [line("1", "A cat.", 0.9), line("2", "dog", 0.4), line("3", None), answer("4", "no truth")]
    data = page_of(folder, data_of, folder.run("a", lines), metric="normalised")
    rights = [record["answers"][0].get("right") for record in data["records"]]
    assert rights == [True, False, False, None]
    assert data["truth"] == {
        "name": "truth",
        "metric": "normalised",
        "says": data["truth"]["says"],
        "changes": {},
    }
    trust = data["runs"][0]["trust"]
    value, low, high, n = trust["right"]
    assert (round(value, 4), n) == (0.3333, 3)
    assert 0 < low < value < high < 1
    # The record that failed has no confidence.
    assert trust["n"] == 2
    assert trust["auroc"] == 1
    assert [[threshold, value] for threshold, (value, *_) in trust["curve"]] == [[0.9, 1], [0.4, 0.5]]


def test_figures_are_of_the_whole_run_on_every_page(folder: Folder, data_of: Data) -> None:
    lines = [line(str(n), "cat" if n % 2 else "dog", n / 10) for n in range(1, 10)]
    _, written = folder.report(folder.run("a", lines), truth=TruthOptions("truth"), records_per_page=4)
    assert len(written.pages) == 3
    trusts = [data_of(one)["runs"][0]["trust"] for one in written.pages]
    assert trusts[0] == trusts[1] == trusts[2]
    assert trusts[0]["right"][3] == 9


def test_a_truth_may_be_a_file_of_ids(folder: Folder, data_of: Data) -> None:
    output = folder.run("a", [line("1", "red"), line("2", "blue")])
    truth = folder.lines("truth.jsonl", [{"id": "1", "truth": "red"}, {"id": "2", "truth": "red"}])
    data = page_of(folder, data_of, output, truth=str(truth))
    assert [record["answers"][0]["right"] for record in data["records"]] == [True, False]
    assert [record["truth"] for record in data["records"]] == ["red", "red"]


def test_what_became_right_or_wrong_is_counted_where_both_are_known(folder: Folder, data_of: Data) -> None:
    before = folder.run(
        "a", [line("1", "cat"), line("2", "dog"), line("3", "dog"), answer("4", "x"), line("5", "dog")]
    )
    after = folder.run(
        "b", [line("1", "dog"), line("2", "cat"), line("3", "dog"), answer("4", "y"), line("6", "cat")]
    )
    data = page_of(folder, data_of, before, after)
    assert data["truth"]["changes"] == {"became wrong": 1, "became right": 1}
    assert [record.get("change") for record in data["records"]] == [
        "became wrong",
        "became right",
        *[None] * 4,
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"confidence": "high"},
        {"confidence": 2},
        {"confidence": True},
        {"probabilities": ["cat"]},
        {"probabilities": {"cat": "much"}},
        {"samples": "many"},
        {"samples": [{"text": "no"}, None]},
        {"agreement": -1},
    ],
)
def test_what_is_not_of_the_expected_kind_is_left_out(
    values: dict[str, Any], folder: Folder, data_of: Data
) -> None:
    data = data_of(folder.report(folder.run("a", [answer("1", **values)]))[0])
    shown = data["records"][0]["answers"][0]
    assert shown["text"] == "a cat"
    assert shown.keys().isdisjoint({"confidence", "labels", "samples", "agreement"})


def test_labels_are_the_likeliest_first_and_samples_say_whether_they_agree(
    folder: Folder, data_of: Data
) -> None:
    samples = [{"generated_text": text} for text in ("Dog!", "the dog", "cat")]
    output = folder.run(
        "a", [answer("1", "dog", probabilities={"cat": 0.2, "dog": 0.8}, samples=samples, agreement=0.6667)]
    )
    shown = data_of(folder.report(output)[0])["records"][0]["answers"][0]
    assert shown["labels"] == [["dog", 0.8], ["cat", 0.2]]
    assert [sample["agrees"] for sample in shown["samples"]] == [True, True, False]
    assert "probabilities" not in shown.get("more", {})


def test_a_truth_that_is_not_there_and_a_package_that_is_missing_are_named(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = folder.run("a", [answer("1")])
    with pytest.raises(UsageError, match="has a truth in label"):
        folder.report(output, truth=TruthOptions("label"))

    def missing(module: str, **names: str) -> None:
        raise MissingPackageError(f"{names['purpose']} needs {module}.", hint="Install it.")

    monkeypatch.setattr(judging, "import_extra", missing)
    with pytest.raises(MissingPackageError, match="report --truth"):
        folder.report(output, truth=TruthOptions("truth"))


def test_flags_about_a_truth_without_one_are_refused(folder: Folder, cli: Callable[..., Any]) -> None:
    output = folder.run("a", [answer("1")])
    ran = cli("report", output, "-o", folder.path / "r.html", "--metric", "exact")
    assert ran.code == 2
    assert "--metric is about a truth, and there is none" in ran.err
