"""From logits to the next token, for each record by its own settings and its own random numbers.

What one record gets never depends on the others in the batch. What a checkpoint forces and forbids, and penalties,
are transformers' own processors, record by record; temperature and what it goes with are `warping`, for all rows at
once.
"""

from __future__ import annotations

import secrets
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from pixano_vlm.batching.likelihood import SURE, LogLikelihoods
from pixano_vlm.batching.logits import draw, no_numbers
from pixano_vlm.batching.penalties import processors_of
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
    least = min(input.min_new_tokens or 0, max_new_tokens)
    config.update(
        max_new_tokens=max_new_tokens,
        max_length=None,
        min_length=None if least else 0,
        # None would be filled in again from a checkpoint that asks for some; of 0 `generate` warns.
        min_new_tokens=least or (None if config.min_new_tokens is None else 0),
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
    if config.do_sample:
        sequence.generator = torch.Generator()
        seed = sequence.input.seed
        sequence.generator.manual_seed(seed if seed is not None else secrets.randbits(63))
        config.do_sample = (
            False  # or else the processors of sampling would come as well: `warping` does their work
        )
    sequence.processors = model._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=sequence.prompt.length,
        encoder_input_ids=None,
        prefix_allowed_tokens_fn=None,
        logits_processor=processors_of(sequence.input, sequence.prompt.length),
        device=str(model.device),
        model_kwargs={},
    )


def choose(logits: Tensor, sequences: list[Sequence], own: Tensor | None = None) -> list[int | Exception]:
    """The next token of each row, or what went wrong in choosing it; how likely it was is noted.

    Args:
        logits: `[rows, vocabulary]`, the model's at each row's last position.
        sequences: The records of those rows.
        own: The model's own logits, where others have changed `logits` already.
    """
    # Not `argmax`, which takes four times as long on a CPU in bfloat16. For greedy records the one wait for a GPU.
    likeliest = logits.max(dim=-1)
    # Where one is not a number neither is the maximum; without this it would be answered with token 0.
    usable = likeliest.values.isfinite()
    likeliest_tokens, fine = torch.stack([likeliest.indices, usable]).tolist()
    tokens: list[int | Exception] = [
        token if is_fine else no_numbers() for token, is_fine in zip(likeliest_tokens, fine, strict=True)
    ]
    drawn = [row for row, sequence in enumerate(sequences) if sequence.generator is not None]
    scores = logits[drawn].float()
    of_row = dict(zip(drawn, scores, strict=True))
    for row, sequence in enumerate(sequences):
        token = tokens[row]
        if isinstance(token, Exception):
            continue
        try:
            if row in of_row:
                if sequence.processors or sequence.prompt.constraint is not None:
                    of_row[row].copy_(_processed(of_row[row], sequence))
            elif sequence.processors or not _allows(sequence, token):
                # A schema needs no mask where the likeliest token of all is allowed.
                tokens[row] = int(_processed(logits[row].float(), sequence).argmax())
        except Exception as error:  # a processor of the checkpoint, a schema
            tokens[row] = error
    if drawn:
        chosen = draw(scores, [sequences[row] for row in drawn])
        for row, token in zip(drawn, chosen, strict=True):
            if not isinstance(tokens[row], Exception):
                tokens[row] = token
    if own is None:
        return _noted(tokens, sequences, LogLikelihoods(logits, likeliest.values), likeliest_tokens)
    return _noted(tokens, sequences, LogLikelihoods(own, own.amax(dim=-1)), [-1] * len(sequences))


def _noted(
    tokens: list[int | Exception],
    sequences: list[Sequence],
    likelihoods: LogLikelihoods,
    likeliest: list[int],
) -> list[int | Exception]:
    """The tokens as the records' schemas take them, after their probabilities were noted."""
    masks = {
        row: allowed
        for row, sequence in enumerate(sequences)
        if sequence.prompt.constraint is not None
        and (
            sequence.input.top_logprobs
            or not (tokens[row] == likeliest[row] and likelihoods.of_likeliest(row) > -SURE)
        )
        and (allowed := sequence.prompt.constraint.allowed()) is not None
    }
    taken = [_accepted(token, sequence) for token, sequence in zip(tokens, sequences, strict=True)]
    others = [
        (row, token)
        for row, token in enumerate(taken)
        if not isinstance(token, Exception) and token != likeliest[row]
    ]
    of_others = likelihoods.of([row for row, _ in others], [token for _, token in others])
    logs = {row: log for (row, _), log in zip(others, of_others, strict=True)}
    of_allowed = likelihoods.of_allowed(masks)
    for row, (sequence, token) in enumerate(zip(sequences, taken, strict=True)):
        if isinstance(token, Exception):
            continue
        log = logs[row] if row in logs else likelihoods.of_likeliest(row)
        if row in masks:
            log -= of_allowed[row]
        sequence.logs.append(min(0.0, log))
        if sequence.input.top_logprobs:
            count = sequence.input.top_logprobs
            sequence.alternatives.append(likelihoods.likeliest(row, count, masks.get(row)))
    return taken


def _accepted(token: int | Exception, sequence: Sequence) -> int | Exception:
    """A token as a record's schema takes it, which may put another in its place near the record's last one."""
    constraint = sequence.prompt.constraint
    if constraint is None or isinstance(token, Exception):
        return token
    try:
        return constraint.accept(token, sequence.remaining)
    except Exception as error:  # the schema's own library
        return error


def _processed(scores: Tensor, sequence: Sequence) -> Tensor:
    """A record's scores `[vocabulary]` after its penalties, what its checkpoint forces or forbids, and its schema."""
    constraint = sequence.prompt.constraint
    given = scores[None]
    if constraint is not None:
        given = constraint.restrict(given)
    if sequence.processors:
        seen = torch.tensor([*sequence.prompt.ids.tolist(), *sequence.tokens], device=scores.device)[None]
        processed = sequence.processors(seen, given)
        if constraint is not None:
            processed = constraint.restrict(processed)
        # A checkpoint may force or forbid tokens against the schema: the schema counts.
        given = processed if constraint is None or _allows_any(processed) else given
    return given[0]


def _allows(sequence: Sequence, token: int) -> bool:
    return sequence.prompt.constraint is None or sequence.prompt.constraint.allows(token)


def _allows_any(scores: Tensor) -> bool:
    return bool((scores > float("-inf")).any())
