"""From a record that has ended to its answer. Knows no model and no cache."""

from __future__ import annotations

from pixano_vlm.batching.field_confidence import field_confidence
from pixano_vlm.batching.likelihood import geometric_mean, written_logs
from pixano_vlm.batching.sequence import Sequence
from pixano_vlm.batching.stop_criteria import StopCriteria
from pixano_vlm.models.generation import settings_used
from pixano_vlm.models.vlm import UsageInfo, VLMOutput
from pixano_vlm.prompts.labels import label_answer
from pixano_vlm.prompts.response_format import parsed_answer, schema_of

__all__ = ["chosen_label", "output"]


def output(sequence: Sequence, stop: StopCriteria) -> VLMOutput:
    """The answer of a record that has ended."""
    if sequence.probabilities is not None:
        return chosen_label(sequence, sequence.probabilities)
    reasoning, text = stop.parts(sequence)
    input, sizes = sequence.input, sequence.prompt.image_sizes
    parsed = parsed_answer(text, input.response_format)
    if parsed is None and input.regions:
        size = (sizes[0].width, sizes[0].height) if sizes else None
        parsed = stop.decoder.postprocessor.parsed(text, input.prompt, size)
    first = stop.thought_tokens(sequence)
    logs, asked = sequence.logs[first:], sequence.input
    written = None
    if logs and (asked.logprobs or (asked.logprobs is None and asked.top_logprobs is not None)):
        others = sequence.alternatives[first:]
        written = written_logs(sequence.tokens[first:], logs, others, stop.decoder.whole)
    of_fields = None
    if parsed is not None and logs and input.response_format is not None:
        pieces = stop.decoder.pieces(sequence.tokens[first:])
        of_fields = field_confidence(text, pieces, logs, schema_of(input.response_format))
    return VLMOutput(
        confidence=geometric_mean(logs),
        field_confidence=of_fields,
        logprobs=written,
        generated_text=text,
        reasoning=reasoning,
        reasoning_tokens=first or None,
        parsed=parsed,
        image_sizes=None if sizes is None else list(sizes),
        usage=UsageInfo.of(sequence.prompt.length, len(sequence.tokens)),
        generation_config=settings_used(sequence.input, sequence.max_new_tokens),
        finish_reason=sequence.finish_reason,
    )


def chosen_label(sequence: Sequence, probabilities: dict[str, float]) -> VLMOutput:
    """The answer of a record whose labels were scored."""
    tree = sequence.prompt.labels
    assert tree is not None
    return label_answer(sequence.input, tree, probabilities, sequence.prompt.length)
