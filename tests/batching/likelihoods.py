"""How likely a model finds given tokens after a prompt, by one plain forward pass over both."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.tiny.reference import prepare_alone

from pixano_vlm.engines.transformers.model import TransformersVLMModel
from pixano_vlm.models import VLMInput


def plain_logs(model: TransformersVLMModel, input: VLMInput, tokens: list[int]) -> list[float]:
    """The logarithms of the tokens' probabilities; under the input's schema among what that allows."""
    loaded = model._require()
    pictures = [Image.open(path).convert("RGB") for path in input.images or []]
    prompt = prepare_alone(loaded.model, loaded.processor, input.prompt, pictures)
    scores = _scores(loaded.model, dict(prompt), tokens)
    if input.response_format is not None:
        schema = input.response_format["json_schema"]["schema"]
        scores = scores.masked_fill(~_allowed(loaded, schema, tokens, scores.shape[-1]), -math.inf)
    chosen = scores.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])
    return [float(log) for log in chosen[:, 0]]


def confidence(logs: list[float]) -> float:
    """Their geometric mean."""
    return math.exp(sum(logs) / len(logs))


@torch.inference_mode()
def _scores(model: Any, prompt: dict[str, Any], tokens: list[int]) -> torch.Tensor:
    """The scores `[tokens, vocabulary]` of what may come at the place of each token."""
    new = torch.tensor([tokens])
    if model.config.is_encoder_decoder:
        start = torch.tensor([[model.generation_config.decoder_start_token_id]])
        given = {**prompt, "decoder_input_ids": torch.cat([start, new], dim=1)}
        return model(**given).logits[0, : len(tokens)].double()
    length = prompt["input_ids"].shape[1]
    prompt["input_ids"] = torch.cat([prompt["input_ids"], new], dim=1)
    for name, value in prompt.items():
        if name != "input_ids" and isinstance(value, torch.Tensor) and value.shape == (1, length):
            fill = torch.ones_like(new) if name == "attention_mask" else torch.zeros_like(new)
            prompt[name] = torch.cat([value, fill], dim=1)
    return model(**prompt).logits[0, length - 1 : -1].double()


def _allowed(loaded: Any, schema: dict[str, Any], tokens: list[int], vocabulary: int) -> torch.Tensor:
    """`[tokens, vocabulary]`: what the schema allows, token after token."""
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer

    ends = sorted(loaded.stop.end_ids)
    compiled = from_tokenizer(loaded.tokenizer, n_vocab=vocabulary, eos_token=ends)
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults={"whitespace_flexible": False})
    matcher = LLMatcher(compiled, grammar)
    rows = []
    for token in tokens:
        packed = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        rows.append(np.unpackbits(packed, bitorder="little")[:vocabulary].astype(bool))
        matcher.consume_token(token)
    return torch.from_numpy(np.stack(rows))
