"""A manifest is read lazily, a line a request, and never changes its reader's mind."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixano_vlm.errors import ManifestError
from pixano_vlm.inputs.fields import ALIASES, suggestion
from pixano_vlm.inputs.manifest import Manifest
from pixano_vlm.inputs.preflight import check_manifest_keys
from pixano_vlm.models import GenerationSettings, Limits


def requests(text: str | bytes | list[Any], **options: Any) -> list[Any]:
    if isinstance(text, list):
        text = "".join(json.dumps(line) + "\n" for line in text)
    stream = io.BytesIO(text.encode() if isinstance(text, str) else text)
    return list(Manifest(None, stream=stream, **options))


def test_a_lines_own_values_win_over_the_settings_and_those_over_the_defaults() -> None:
    flags = GenerationSettings(temperature=0.5, top_p=0.9, stop=["END"])
    own, plain = requests(
        [{"prompt": "q", "temperature": 0, "stop": "X", "seed": 5}, {"prompt": "q"}], settings=flags
    )
    assert (own.input.temperature, own.input.top_p, own.input.stop, own.input.seed) == (0, 0.9, ["X"], 5)
    assert (plain.input.temperature, plain.input.stop, plain.input.max_new_tokens) == (0.5, ["END"], 128)


def test_the_line_number_is_the_id_where_there_is_none() -> None:
    assert [request.id for request in requests('\n{"prompt": "q"}\n\n{"prompt": "q", "id": 12}\n')] == [
        "2",
        "12",
    ]


def test_a_sampled_record_draws_its_seed_from_the_runs_and_its_id() -> None:
    lines = [{"prompt": "q", "id": name} for name in ("a", "b")]
    first, again, other = (requests(lines, run_seed=seed) for seed in (1, 1, 2))
    assert [request.input.seed for request in first] == [request.input.seed for request in again]
    seeds = {request.input.seed for request in (*first, *other)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    (greedy,) = requests([{"prompt": "q", "temperature": 0}])
    assert greedy.input.seed is None


def test_unknown_keys_go_to_the_metadata_and_the_lines_own_metadata_wins() -> None:
    (request,) = requests([{"prompt": "q", "answer": 1, "source": "x", "metadata": {"source": "y"}}])
    assert request.metadata == {"answer": 1, "source": "y"}


def test_paths_start_from_the_manifests_folder(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "c.png"}}]}
    lines = [{"prompt": "q", "images": ["a.png", "http://x/y.png"]}, {"prompt": [message]}]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = Manifest(manifest)
    assert first.input.images == [str(tmp_path / "a.png"), "http://x/y.png"]
    assert first.images == ("a.png", "http://x/y.png")
    assert second.input.prompt[0]["content"][0]["image_url"]["url"] == str(tmp_path / "c.png")


def test_messages_are_copied_where_a_path_in_them_is_resolved() -> None:
    from pixano_vlm.prompts.messages import map_images

    part = {"type": "image", "path": "a.png", "detail": "low"}
    messages = [{"role": "user", "content": [part]}, {"role": "assistant", "content": "x"}]
    before = json.dumps(messages)
    mapped = map_images(messages, lambda source: "/root/" + source)
    assert mapped[0]["content"][0] == {"type": "image", "path": "/root/a.png", "detail": "low"}
    assert json.dumps(messages) == before


def test_reading_is_lazy_and_needs_no_more_than_a_line() -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            data = b'{"prompt": "q"}\n' * (len(buffer) // 16)
            buffer[: len(data)] = data
            return len(data)

    reader = iter(Manifest(None, stream=io.BufferedReader(Endless())))
    assert [next(reader).line for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("key", sorted(ALIASES))
def test_another_tools_name_for_a_key_is_recognised(key: str) -> None:
    assert suggestion(key) == ALIASES[key]
    assert suggestion(key.upper().replace("_", "-")) == ALIASES[key]


@pytest.mark.parametrize(
    ("key", "meant"),
    [("temprature", "temperature"), ("Prompt", "prompt"), ("max-new-tokens", "max_new_tokens"), ("ID", "id"),
     ("prompts", "prompt"), ("metdata", "metadata"), ("sead", None), ("answer", None), ("source", None),
     ("idx", None), ("question", None), ("text", None), ("width", None), ("label", None), ("step", None),
     ("image_id", None), ("file_name", None), ("meta", None), ("split", None), ("top", None)],
)  # fmt: skip
def test_a_misspelt_key_is_told_from_the_callers_own(key: str, meant: str | None) -> None:
    assert suggestion(key) == meant


def test_the_preflight_names_line_key_and_the_right_key_and_counts(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    good = [{"prompt": f"q{i}", "metadata": {"max_tokens": 1, "image": 2}} for i in range(30)]
    manifest.write_text("\n".join(json.dumps(line) for line in good) + "\n\n  \nnot json\n")
    assert check_manifest_keys(manifest) == 31
    good[16]["max_tokens"] = 5
    manifest.write_text("\n".join(json.dumps(line) for line in good))
    with pytest.raises(ManifestError, match=r"m\.jsonl:17: unknown key 'max_tokens'.*'max_new_tokens'"):
        check_manifest_keys(manifest)


@given(
    lines=st.lists(
        st.dictionaries(
            st.sampled_from(["prompt", "id", "x", "max_tokens", "imges", 'a"b', "a:b", ": ", ', "', "ö"]),
            st.sampled_from(["v", '": "', 'max_tokens": 1', "\\", {"image": 1}, ["temp", {"temp": 0}]]),
            max_size=4,
        ),
        max_size=6,
    ),
    indent=st.sampled_from([(", ", ": "), (",", ":"), (" , ", " : ")]),
)
@settings(max_examples=300, deadline=None)
def test_the_quick_preflight_finds_exactly_what_parsing_finds(
    tmp_path_factory: pytest.TempPathFactory, lines: list[Any], indent: Any
) -> None:
    manifest = tmp_path_factory.getbasetemp() / "preflight.jsonl"
    text = "".join(json.dumps(line, separators=indent) + "\n" for line in lines)
    manifest.write_text(text)
    wrong = any(suggestion(key) for line in lines for key in line)
    try:
        assert check_manifest_keys(manifest) == len(lines)
    except ManifestError:
        assert wrong
    else:
        assert not wrong


PIECES = [b'{"prompt":', b'"q"', b"}", b"\n", b"\r", b"[", b"\0", b"\xff", b'"images":[', b",", b"1e400", b"NaN",
          b'"id":', b"\xef\xbb\xbf"]  # fmt: skip


@given(st.binary(max_size=400) | st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))
@settings(max_examples=1000, deadline=None)
def test_no_bytes_whatever_stop_the_reader(data: bytes) -> None:
    lines = [line for line in data.split(b"\n") if line.strip()]
    found = requests(data, limits=Limits())
    assert len(lines) - 1 <= len(found) <= len(lines)  # a byte-order mark alone is a blank line
    assert all((request.input is None) != (request.error is None) for request in found)


@pytest.mark.parametrize(("name", "words"), [("missing.jsonl", "there is no manifest"), (".", "is a folder")])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        Manifest(tmp_path / name)
