"""200 records of all sorts on every architecture, in batches of 1, 4 and 32, with and without caches, in any order.

`tests/batching/test_exactness.py` is the short form.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.batching.workload import answer_alone, draw_pictures, load, requests
from tests.tiny import ARCHITECTURES, build

from pixano_vlm.batching.verification import stream_tokens
from pixano_vlm.models import VLMInput, VLMOutput

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

RECORDS = 200
NAMES = (
    "idefics3",
    "idefics3_tiles",
    "llava",
    "llava_next",
    "gemma3",
    "paligemma",
    "florence2",
    "mistral3",
    "qwen2_5_vl",
    "qwen3_vl",
    "internvl",
    "qwen3_5",
    "lfm2_vl",
    "gemma4",
)
NO_CACHES = {"image_cache_bytes": 0, "prefix_cache_bytes": 0}
WAYS = (
    {"max_batch_size": 1},
    {"max_batch_size": 4},
    {"max_batch_size": 32},
    {"max_batch_size": 4, **NO_CACHES},
    {"max_batch_size": 32, **NO_CACHES},
)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.mark.parametrize("name", NAMES)
def test_two_hundred_records_get_their_tokens_in_every_way(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ARCHITECTURES[name].missing
    if missing:
        pytest.skip(f"{name} needs {', '.join(missing)}; run this in the environment that has them")
    build(name, tmp_path / name)
    inputs = requests(name, draw_pictures(tmp_path), RECORDS, seed=7)
    models = [load(tmp_path / name, **way) for way in WAYS]
    expected = [record.tokens for record in answer_alone(models[0], inputs)]
    shuffled = list(range(RECORDS))
    random.Random(3).shuffle(shuffled)
    for model, way in zip(models, WAYS, strict=True):
        for order in (list(range(RECORDS)), shuffled):
            got = stream_tokens(model._require().stop, model.stream, [inputs[i] for i in order])
            wrong = [i for place, i in enumerate(order) if got[place] != expected[i]]
            assert not wrong, f"{name} with {way}: {len(wrong)} of {RECORDS} differ, the first is {wrong[0]}"
    engine = models[0].describe()["engine"]
    short = sum(len(tokens) < input.max_new_tokens for tokens, input in zip(expected, inputs, strict=True))
    with capsys.disabled():
        lengths = [models[0]._require().maker.make(input).length for input in inputs[:40]]
        print(
            f"\n{name}: {RECORDS} of {RECORDS} exact in {2 * len(WAYS)} ways ({engine}); {short} ended early, "
            f"prompts of {min(lengths)} to {max(lengths)} tokens"
        )


@pytest.mark.parametrize("name", ["idefics3", "qwen2_5_vl"])
def test_sampled_records_do_not_depend_on_their_batch(name: str, tmp_path: Path) -> None:
    if ARCHITECTURES[name].missing:
        pytest.skip(f"{name} needs {', '.join(ARCHITECTURES[name].missing)}")
    build(name, tmp_path / name)
    model = load(tmp_path / name, max_batch_size=16)
    inputs = [
        VLMInput(**{**input.model_dump(), "temperature": 0.8, "top_p": 0.9, "seed": seed})
        for seed, input in enumerate(requests(name, draw_pictures(tmp_path), 60, seed=8))
    ]

    def texts(order: list[int]) -> dict[int, str]:
        answers = dict(model.stream((i, inputs[i]) for i in order))
        return {i: answer.generated_text for i, answer in answers.items() if isinstance(answer, VLMOutput)}

    alone = {i: text for i in range(len(inputs)) for text in texts([i]).values()}
    forwards, backwards = texts(list(range(60))), texts(list(range(60))[::-1])
    assert forwards == alone
    assert backwards == alone
