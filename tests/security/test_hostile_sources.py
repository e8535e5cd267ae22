"""What a config, a chat template and a server's answer may not do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixano_vlm.catalog import load_catalog
from pixano_vlm.engines.openai.failure import Failure, read_response, shown
from pixano_vlm.errors import ConfigError

KEY = "sk-secret-0123456789"


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch owned']", "!!python/name:os.system", "!evil x"]
)
def test_a_config_makes_no_python_objects(tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "models.yaml"
    config.write_text(f"models:\n  - name: evil\n    path: {tag}\n")
    with pytest.raises(ConfigError):
        load_catalog([config])
    assert not (tmp_path / "owned").exists()


def test_a_chat_template_reaches_no_python() -> None:
    """The templates of checkpoints are rendered by transformers, in a sandbox; this fails if that ever ends."""
    jinja = pytest.importorskip("jinja2.sandbox")
    from transformers.utils.chat_template_utils import _compile_jinja_template

    for text in ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ cycler.__init__.__globals__.os }}"):
        with pytest.raises(jinja.SecurityError):
            _compile_jinja_template(text).render()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"choices": ' + "[" * 100_000, "9" * 100_000, '"' + "x" * 3_000_000, "\x00", ""]
)
def test_a_servers_answer_that_is_no_json_is_a_failure_in_few_words(text: str) -> None:
    failure = read_response(200, {}, text, key=None)
    assert isinstance(failure, Failure)
    assert len(failure.message) < 1_000


def test_a_servers_words_are_shown_without_the_key_and_without_what_a_terminal_obeys() -> None:
    body = json.dumps({"error": {"message": f"\x1b[2J\x1b]0;owned\x07 no such key {KEY}"}})
    failure = read_response(403, {}, body, key=KEY)
    assert isinstance(failure, Failure)
    for text in (failure.message, str(failure.hint), shown(f"\x1b[31m{KEY}\x9b", KEY)):
        assert KEY not in text
        assert not any(letter in text for letter in "\x1b\x07\x9b")
