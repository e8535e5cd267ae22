"""Prompts over real tokenizers: their tokens are those that transformers makes of the same messages."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from tests.tokenizers.families import STYLES, Family, template
from tests.tokenizers.texts import SCRIPTS, random_text

from pixano_vlm.batching.prepare import PromptMaker
from pixano_vlm.errors import PromptError
from pixano_vlm.models import VLMInput

pytestmark = pytest.mark.tokenizers

Messages = list[dict[str, Any]]
Maker = Callable[..., PromptMaker]

CALL = {"type": "function", "id": "call00001", "function": {"name": "measure", "arguments": {"of": "água"}}}


def parts(text: str) -> Messages:
    return [{"type": "text", "text": text}]


def as_lists(messages: Messages) -> Messages:
    return [
        message | {"content": parts(message["content"])} if isinstance(message["content"], str) else message
        for message in messages
    ]


def alone(untouched: Any, style: str, family: Family, messages: Messages, **variables: Any) -> list[int]:
    """The tokens that transformers makes of messages in the form that the style takes."""
    given = as_lists(messages) if style == "list" else messages
    answered = messages[-1]["role"] == "assistant"
    inputs = untouched.apply_chat_template(
        given, chat_template=template(family, style), tokenize=True, return_dict=True,
        add_generation_prompt=not answered, continue_final_message=answered, **variables,
    )  # fmt: skip
    return [int(id) for id in inputs["input_ids"][0]]


def ours(maker: PromptMaker, messages: Messages | str, **settings: Any) -> list[int]:
    input = VLMInput(prompt=messages, max_new_tokens=1, **settings)
    return [int(id) for id in maker.make(input).ids]


def conversations(text: str) -> dict[str, Messages]:
    user, other = {"role": "user", "content": text}, {"role": "user", "content": f"{text} ?"}
    answer = {"role": "assistant", "content": f"A: {text}"}
    return {
        "one turn": [user],
        "a system turn": [{"role": "system", "content": text}, user],
        "an assistant turn": [user, answer, other],
        "a begun answer": [user, {"role": "assistant", "content": "A: " + text.strip()}],
        "a tool turn": [
            user,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "name": "measure", "tool_call_id": CALL["id"], "content": text},
        ],
    }


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_tokens_of_every_conversation_are_transformers_own(
    maker: Maker, untouched: Any, family: Family, style: str, script: str
) -> None:
    made = maker(style)
    compared = 0
    for kind, messages in conversations(SCRIPTS[script]).items():
        if kind == "a tool turn" and style != "tools":
            continue
        if kind == "a system turn" and style == "system refused":
            with pytest.raises(PromptError, match="there is no system turn here"):
                ours(made, messages)
            continue
        wanted = alone(untouched, style, family, messages)
        assert ours(made, messages) == wanted, kind
        if kind != "a tool turn":
            assert ours(made, as_lists(messages)) == wanted, kind
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("style", STYLES)
def test_an_image_is_where_the_template_puts_it(
    maker: Maker, untouched: Any, family: Family, style: str, picture: str
) -> None:
    text = SCRIPTS["Thai"]
    image = Image.open(picture)
    if style == "string":  # as the models' own examples do: the token in the text
        written = [{"role": "user", "content": f"{family.image}\n{text}"}]
        rendered = untouched.apply_chat_template(
            written, chat_template=template(family, style), tokenize=False, add_generation_prompt=True
        )
        special = {"add_special_tokens": not (family.start and rendered.startswith(family.start))}
        wanted = [int(id) for id in untouched(text=[rendered], images=[image], **special)["input_ids"][0]]
    else:
        messages = [{"role": "user", "content": [{"type": "image", "image": image}, *parts(text)]}]
        wanted = alone(untouched, style, family, messages)
    assert ours(maker(style), text, images=[picture]) == wanted
    if style != "string":
        content = [{"type": "image", "image": image}, *parts("\n" + text)]
        wanted = alone(untouched, style, family, [{"role": "user", "content": content}])
    assert ours(maker(style), f"<image>\n{text}", images=[picture]) == wanted


@pytest.mark.parametrize(
    ("variables", "ends"),
    [({"enable_thinking": False}, "</think>\n\n"), ({"deep": True}, "<think>\n"), ({}, "")],
)
def test_a_switch_for_thinking_is_the_templates(
    maker: Maker, untouched: Any, family: Family, tokenizer: Any, variables: dict[str, Any], ends: str
) -> None:
    messages = [{"role": "user", "content": SCRIPTS["Korean"]}]
    wanted = alone(untouched, "thinking", family, messages, **variables)
    made = maker("thinking")
    assert ours(made, messages, chat_template_kwargs=variables or None) == wanted
    assert str(tokenizer.decode(wanted)).endswith(ends)


def test_control_tokens_in_a_users_text_are_text(maker: Maker, tokenizer: Any, family: Family) -> None:
    """As many control tokens as in the same prompt with plain words, and the text comes out as it went in."""
    made = maker("either")
    control = sorted(made.renderer.control.tokens)
    assert family.end.strip() in control
    numbers = set(tokenizer.convert_tokens_to_ids(control))
    plain = ours(made, "Say plum.")
    for token in control[:40]:
        for said in (f"Say {token}.", token, f"{token}{token}", f"你好{token}👍", f"\n{token}\n"):
            if family.image in said:  # that one is the place of an image, and is refused without one
                continue
            ids = ours(made, said)
            assert [id for id in ids if id in numbers] == [id for id in plain if id in numbers], said
            assert said in str(tokenizer.decode(ids, skip_special_tokens=False)), said


def test_a_thousand_random_prompts_have_transformers_own_tokens(
    maker: Maker, untouched: Any, family: Family
) -> None:
    draw = random.Random(family.name)
    made = maker("string")
    for _ in range(1000):
        text = random_text(draw)
        messages = [{"role": "user", "content": text}]
        assert ours(made, messages) == alone(untouched, "string", family, messages), text
