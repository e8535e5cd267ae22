"""From logits to the next token, for each record by its own settings and its own random numbers.

What one record gets never depends on the others in the batch. The warping of probabilities is transformers'
own; only the choice of who needs it is made here.
"""

from __future__ import annotations

import secrets
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from pixano_vlm.batching.sequence import Sequence
from pixano_vlm.models.vlm import VLMInput


def generation_config(model: Any, input: VLMInput, max_new_tokens: int) -> Any:
    """The model's own `GenerationConfig` with every sampling setting replaced by what the record asks.

    A checkpoint's taste in sampling (top_k 50, repetition_penalty 1.05, beams) is dropped, since it would
    answer a question that nobody asked; what belongs to the model (end tokens, forced and suppressed tokens)
    stays.
    """
    config = deepcopy(model.generation_config)
    sample = input.temperature > 0
    config.update(
        max_new_tokens=max_new_tokens,
        max_length=None,
        min_length=0,
        # None would be filled in again from a checkpoint that asks for some; of 0 `generate` warns.
        min_new_tokens=None if config.min_new_tokens is None else 0,
        num_beams=1,
        num_return_sequences=1,
        do_sample=sample,
        # Off is a number when sampling, since None would be filled in again from the checkpoint.
        temperature=input.temperature if sample else None,
        top_k=(input.top_k or 0) if sample else None,
        top_p=(input.top_p or 1.0) if sample else None,
        min_p=(input.min_p or 0.0) if sample else None,
        typical_p=1.0 if sample else None,
        epsilon_cutoff=0.0 if sample else None,
        eta_cutoff=0.0 if sample else None,
        repetition_penalty=input.repetition_penalty or 1.0,
        return_dict_in_generate=False,
        output_logits=False,
        output_scores=False,
        use_cache=True,
    )
    return config


def attach_sampling(model: Any, sequence: Sequence) -> None:
    """Gives a record its logits processors and, when it samples, its random numbers."""
    config = generation_config(model, sequence.input, sequence.max_new_tokens)
    # What `generate` sets before it makes its processors: those that force or forbid tokens read it.
    config.max_length = sequence.prompt.length + sequence.max_new_tokens
    model._prepare_special_tokens(config, device=model.device)
    if not config.min_p:
        config.min_p = (
            None  # 0 would cost a softmax and a sort of the vocabulary at every token, and change nothing
        )
    sequence.processors = model._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=sequence.prompt.length,
        encoder_input_ids=None,
        prefix_allowed_tokens_fn=None,
        logits_processor=[],
        device=str(model.device),
        model_kwargs={},
    )
    if config.do_sample:
        sequence.generator = torch.Generator()
        seed = sequence.input.seed
        sequence.generator.manual_seed(seed if seed is not None else secrets.randbits(63))


def choose(logits: Tensor, sequences: list[Sequence]) -> list[int | Exception]:
    """The next token of each row, or what went wrong in choosing it.

    Args:
        logits: `[rows, vocabulary]`, the model's at each row's last position.
        sequences: The records of those rows.
    """
    # Not `argmax`, which takes four times as long on a CPU in bfloat16. For greedy records the one wait for a GPU.
    likeliest: list[int] = logits.max(dim=-1).indices.tolist()
    drawn = [row for row, sequence in enumerate(sequences) if _is_drawn_as_it_is(sequence)]
    # All at once: one transfer from a GPU in place of one for each.
    probabilities = dict(zip(drawn, torch.softmax(logits[drawn].float(), dim=-1).cpu(), strict=True))
    tokens: list[int | Exception] = []
    for row, sequence in enumerate(sequences):
        try:
            if row in probabilities:
                tokens.append(_draw(probabilities[row], sequence))
            elif not sequence.processors and sequence.generator is None:
                tokens.append(_likeliest(likeliest[row], logits[row], sequence))
            else:
                tokens.append(choose_one(logits[row], sequence))
        except Exception as error:  # a processor of the checkpoint, a schema, logits that are no numbers
            tokens.append(error)
    return tokens


def _is_drawn_as_it_is(sequence: Sequence) -> bool:
    """Whether a record samples from the model's own probabilities."""
    return sequence.generator is not None and not sequence.processors and sequence.prompt.constraint is None


def _draw(probabilities: Tensor, sequence: Sequence) -> int:
    return int(torch.multinomial(probabilities, 1, generator=sequence.generator))


def _likeliest(token: int, logits: Tensor, sequence: Sequence) -> int:
    """The next token of a record for which the likeliest one counts; `token` is the likeliest of all."""
    constraint = sequence.prompt.constraint
    if constraint is None:
        return token
    # Without a mask where none would change anything.
    allowed = constraint.allows(token)
    return constraint.accept(token, sequence.remaining) if allowed else choose_one(logits, sequence)


def choose_one(logits: Tensor, sequence: Sequence) -> int:
    """The next token of one record, by all that it asks.

    Args:
        logits: `[vocabulary]`.
        sequence: The record.
    """
    constraint = sequence.prompt.constraint
    scores = logits.to(torch.float32, copy=True)[None]  # [1, vocabulary]
    if constraint is not None:
        # First, so that what keeps the likeliest few tokens keeps those that may come.
        scores = constraint.restrict(scores)
    if sequence.processors:
        seen = torch.tensor([*sequence.prompt.ids.tolist(), *sequence.tokens], device=scores.device)[None]
        warped = sequence.processors(seen, scores)
        # A checkpoint may force or forbid tokens against the schema: the schema counts.
        scores = warped if constraint is None or _allows_any(constraint.restrict(warped)) else scores
    if constraint is not None:
        scores = constraint.restrict(scores)
    if sequence.generator is None:
        token = int(scores.argmax(dim=-1))
    else:
        token = _draw(torch.softmax(scores[0], dim=-1).cpu(), sequence)
    return token if constraint is None else constraint.accept(token, sequence.remaining)


def _allows_any(scores: Tensor) -> bool:
    return bool((scores > float("-inf")).any())
