"""A run's calibration: applied to each confidence, the engine's own kept, and part of what resuming compares."""

from __future__ import annotations

import json

import pytest
from tests.fakes import FakeModel

from pixano_vlm import generate
from pixano_vlm.errors import OutputError
from pixano_vlm.models import VLMOutput
from pixano_vlm.records.calibration import Calibration


class SureOutput(VLMOutput):
    confidence: float | None = None


class SureModel(FakeModel):
    """Answers as the fake model does, with a confidence of 0.8."""

    def predict(self, input):
        return SureOutput(**super().predict(input).model_dump() | {"confidence": 0.8})


CALIBRATION = Calibration(slope=1.0, intercept=-1.0, n=100, right=50)


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps({"id": str(n), "prompt": f"Question {n}"}) + "\n" for n in range(12)))
    return path


@pytest.fixture
def calibration(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(CALIBRATION.model_dump_json())
    return path


def run(manifest, tmp_path, **options):
    model, output = SureModel(), tmp_path / "out.jsonl"
    results = list(generate(manifest, model=model, output=output, **options))
    return results, model, [json.loads(line) for line in output.read_text().splitlines()]


def test_confidence_is_calibrated_and_the_engines_own_is_kept(manifest, calibration, tmp_path):
    results, _, lines = run(manifest, tmp_path, calibration=calibration)
    assert {result.output.confidence for result in results} == {round(CALIBRATION.apply(0.8), 6)}
    assert {line["raw_confidence"] for line in lines} == {0.8}
    assert CALIBRATION.apply(0.8) == pytest.approx(4 / (4 + 2.718281828))  # by hand: odds of 4, divided by e


def test_without_a_calibration_the_line_is_what_it_was(manifest, tmp_path):
    results, _, lines = run(manifest, tmp_path)
    assert {result.output.confidence for result in results} == {0.8}
    assert not any("raw_confidence" in line for line in lines)


def test_a_run_resumes_under_its_own_calibration_and_says_when_that_changed(manifest, calibration, tmp_path):
    run(manifest, tmp_path, calibration=calibration)
    assert run(manifest, tmp_path, calibration=calibration, resume=True)[1].asked == []
    with pytest.raises(OutputError, match="0 of 12 earlier answers hold: the calibration changed"):
        run(manifest, tmp_path, resume=True)
    assert len(run(manifest, tmp_path, resume=True, force=True)[1].asked) == 12


def test_an_output_of_before_calibrations_still_resumes(manifest, tmp_path):
    run(manifest, tmp_path)
    journal = next(path for path in tmp_path.iterdir() if path.name.endswith("journal"))
    assert b" calibration " not in journal.read_bytes()
    assert run(manifest, tmp_path, resume=True)[1].asked == []
