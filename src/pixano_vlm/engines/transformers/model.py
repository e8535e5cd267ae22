"""Any Hugging Face image-text-to-text model, run by this package's own batching.

Loads the model, finds out how it may be batched, and feeds the engine. Which architecture it is, nobody here
asks.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel

from pixano_vlm.batching.capabilities import (
    Capabilities,
    Trial,
    examine,
    obstacle,
    trial_inputs,
    trial_picture,
)
from pixano_vlm.batching.constraint import Grammars, unenforceable
from pixano_vlm.batching.engine import Engine
from pixano_vlm.batching.engine_stats import EngineStats
from pixano_vlm.batching.kernels import is_applicable, speed_up
from pixano_vlm.batching.oracle import Oracle
from pixano_vlm.batching.plan import Plan
from pixano_vlm.batching.prepare import Preparer, PromptMaker, options_for
from pixano_vlm.batching.static import StaticBatches
from pixano_vlm.batching.stop_criteria import StopCriteria
from pixano_vlm.batching.verification import Verification, Verifier, trial_conversations
from pixano_vlm.engines.base import EngineModel
from pixano_vlm.engines.transformers import prompting
from pixano_vlm.engines.transformers.adapters import adapter_files
from pixano_vlm.engines.transformers.answer_text import answer_decoder
from pixano_vlm.engines.transformers.checkpoint import checkpoint_folder
from pixano_vlm.engines.transformers.device import MOST_TOKENS, tokens_that_fit
from pixano_vlm.engines.transformers.end_tokens import EndTokens, find_end_tokens
from pixano_vlm.engines.transformers.generation_defaults import GenerationDefaults, settle
from pixano_vlm.engines.transformers.loading import load_model, load_processor, load_untouched, read_params
from pixano_vlm.engines.transformers.quantization import is_quantized, unquantized, weight_bytes
from pixano_vlm.errors import ModelLoadError, RunError, VLMError
from pixano_vlm.models.deployment import ModelDeploymentConfig, TransformersParams
from pixano_vlm.models.registry import register_model
from pixano_vlm.models.vlm import Key, VLMInput, VLMOutput
from pixano_vlm.prompts.chat_template import ChatTemplateRenderer
from pixano_vlm.prompts.control_tokens import heed_marks, unmarked
from pixano_vlm.prompts.template_files import NONE, has_template

VERIFIED_TOKENS = 24
"""Most tokens of each record that `verify` compares."""


@dataclass(slots=True)
class _Loaded:
    """What `load_model` took."""

    model: Any
    processor: Any
    tokenizer: Any
    maker: PromptMaker
    stop: StopCriteria
    plan: Plan
    capabilities: Capabilities
    ends: EndTokens
    defaults: GenerationDefaults
    engine: Engine | None
    parameters: int
    memory: int
    """Bytes of the weights."""
    full_memory: int
    """Bytes they would take without quantization."""
    seconds: float


@register_model
class TransformersVLMModel(EngineModel):
    """A model of `AutoModelForImageTextToText`, with its own processor and chat template.

    Args:
        config: `model_params` are those of `TransformersParams`.
    """

    params_class: ClassVar[type[BaseModel]] = TransformersParams
    takes_turns = True
    takes_samples = True

    def __init__(self, config: ModelDeploymentConfig) -> None:
        super().__init__(config)
        self.params = read_params(config)
        self._loaded: _Loaded | None = None
        self._open = threading.Lock()  # held while a stream is open: the engine's rows are one stream's

    def load_model(self) -> None:
        """Loads processor and weights, and finds out how the model may be batched."""
        if self._loaded is not None:
            return
        began = time.perf_counter()
        processor = load_processor(self.params)
        model = load_model(self.params)
        # Counted now: packed layers have no parameters that could be counted.
        parameters, memory = sum(p.numel() for p in model.parameters()), weight_bytes(model)
        full_memory = memory
        if is_quantized(model):
            parameters, full_memory = unquantized(model)
        tokenizer = getattr(processor, "tokenizer", processor)
        renderer = ChatTemplateRenderer(
            processor,
            prepends_images=_needs_image_tokens(processor, model),
            variables=self.params.chat_template_kwargs,
        )
        heed_marks(tokenizer, renderer.control)
        defaults = settle(model.generation_config, has_encoder=bool(model.config.is_encoder_decoder))
        ends = find_end_tokens(model, tokenizer, renderer.closing())
        if ends.ids:
            model.generation_config.eos_token_id = list(ends.ids)
        context = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        decoder = answer_decoder(processor, renderer, ends, self.params.skip_special_tokens)
        stop = StopCriteria(ends.ids, decoder, defaults.stop_strings, renderer.thinking)
        vocabulary = model.config.get_text_config(decoder=True).vocab_size
        maker = PromptMaker(
            processor,
            renderer,
            Grammars(tokenizer, vocabulary, stop.end_ids),
            image_token_id=getattr(model.config, "image_token_id", None),
            limits=self.limits,
            context=context if isinstance(context, int) else None,
            prompts_decoder=_prompts_decoder(model),
            options=options_for(processor, model),
        )
        plan = Plan(
            max_rows=self.params.max_batch_size,
            max_tokens=self.params.max_batch_tokens or MOST_TOKENS,
            prefill_tokens=self.params.prefill_tokens,
            image_bytes=self.params.image_cache_bytes,
            prefix_bytes=self.params.prefix_cache_bytes,
            shared_prefill=False,
            image_features=False,
            context=context if isinstance(context, int) else None,
        )
        if self.params.engine == "static":
            capabilities = Capabilities(False, False, False, "asked for by the parameter `engine`")
        else:
            capabilities = self._examine(model, maker, stop, plan)
        if self.params.engine == "in-flight" and not capabilities.in_flight:
            raise ModelLoadError(
                f"model {self.model_name!r} cannot be batched in flight: {capabilities.reason}.",
                hint="Leave the parameter `engine` at auto.",
            )
        engine = None
        if capabilities.in_flight:
            tokens = self.params.max_batch_tokens or tokens_that_fit(
                model.device, capabilities.token_bytes, beside=plan.max_rows * capabilities.row_bytes
            )
            plan = replace(
                plan,
                shared_prefill=capabilities.shared_prefill,
                image_features=capabilities.image_features,
                max_tokens=tokens,
            )
            engine = Engine(model, maker, stop, capabilities.kinds, plan)
        seconds = time.perf_counter() - began
        self._loaded = _Loaded(
            model,
            processor,
            tokenizer,
            maker,
            stop,
            plan,
            capabilities,
            ends,
            defaults,
            engine,
            parameters,
            memory,
            full_memory,
            seconds,
        )

    def _examine(self, model: Any, maker: PromptMaker, stop: StopCriteria, plan: Plan) -> Capabilities:
        """How the model may be run, with the faster kernels where they pass the same trial."""
        reason = obstacle(model)
        if reason is not None:
            return Capabilities(False, False, False, reason)
        trial = Trial(model, maker, stop)
        if is_quantized(model) or not is_applicable(model):
            return examine(trial, plan)
        undo = speed_up(model, attention=self.params.attn_implementation is None)
        faster = examine(trial, plan)
        if faster.shared_prefill or (faster.in_flight and trial.has_states):
            return replace(faster, kernels=True)
        undo()
        return examine(trial, plan)

    def unload(self) -> None:
        """Frees the weights and every cache."""
        self._loaded = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def stream(self, inputs: Iterable[tuple[Key, VLMInput]]) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        """Answers many inputs, batched; see `VLMModel.stream`."""
        loaded = self._require()
        if not self._open.acquire(blocking=False):
            raise RunError(
                f"model {self.model_name!r} is answering another stream.",
                hint="Take that stream's last answer, or close it, first.",
            )
        try:
            yield from self._stream(loaded, inputs)
        finally:
            self._open.release()

    def _stream(
        self, loaded: _Loaded, inputs: Iterable[tuple[Key, VLMInput]]
    ) -> Iterator[tuple[Key, VLMOutput | VLMError]]:
        loaded.maker.limits = self.limits
        runner: Engine | StaticBatches
        if loaded.engine is not None:
            runner = loaded.engine
            runner.reset()
        else:
            runner = StaticBatches(loaded.model, loaded.stop, loaded.plan.max_rows, loaded.plan.context)
        window = max(64, 4 * loaded.plan.max_rows)
        with Preparer(iter(inputs), loaded.maker, self.params.prepare_workers, window) as source:
            yield from runner.run(source)  # type: ignore[misc]  # keys come back as they went in

    def count_tokens(self, input: VLMInput) -> int:
        """Tokens of the prompt, by the model's own processor."""
        maker = self._require().maker
        maker.limits = self.limits
        return len(maker.make(input).ids)

    def verify(self) -> Verification:
        """Compares prompts, tokens, ends and text with those of transformers alone; see `Verifier`."""
        loaded = self._require()
        inputs = trial_inputs(VERIFIED_TOKENS)
        image = trial_picture()
        processor, template = load_untouched(self.params)
        oracle = Oracle(loaded.model, processor, options_for(processor, loaded.model), template)
        verifier = Verifier(oracle, loaded.stop, self.stream, self._prompt_ids)
        conversations = trial_conversations(image, VERIFIED_TOKENS) if oracle.template is not None else {}
        return verifier.verify(inputs, conversations, expects_template=self._expects_template(loaded))

    def show_prompt(self, input: VLMInput) -> dict[str, Any]:
        """The exact prompt of a record: its `prompt` as text, and its `token_ids`, image tokens included."""
        text = unmarked(self._require().maker.renderer.render(input).text)
        return {"prompt": text, "token_ids": self._prompt_ids(input)}

    def _prompt_ids(self, input: VLMInput) -> list[int]:
        maker = self._require().maker
        maker.limits = self.limits
        return [int(id) for id in maker.make(input).ids]

    def _expects_template(self, loaded: _Loaded) -> bool:
        """Whether the model is of a kind that is asked in turns, and nobody chose to do without a template."""
        return not loaded.model.config.is_encoder_decoder and self.params.chat_template is None

    def cannot_follow(self, response_format: dict[str, Any]) -> str | None:
        """What llguidance says of the schema; see `VLMModel.cannot_follow`."""
        return unenforceable(response_format)

    def cannot_budget_images(self) -> str | None:
        """What the loaded processor says; see `VLMModel.cannot_budget_images`."""
        return None if self._loaded is None else self._loaded.maker.image_budget.refusal

    @property
    def stats(self) -> EngineStats | None:
        """Counts and seconds of the in-flight engine since the last `stream` began; None for static batches."""
        engine = self._require().engine
        return None if engine is None else engine.stats

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Facts about the loaded model."""
        loaded = self._require()
        model, capabilities = loaded.model, loaded.capabilities
        if capabilities.in_flight:
            sharing = "shared prefixes" if capabilities.shared_prefill else "prompts prefilled one at a time"
            images = (
                "images encoded once" if capabilities.image_features else "images encoded with each prompt"
            )
            engine = f"continuous batching, {images}, {sharing}" + (
                ", packed weights" if capabilities.kernels else ""
            )
        else:
            engine = "static batches of equal shapes"
        return {
            "class": type(self).__name__,
            "path": self.params.path,
            "architecture": type(model).__name__,
            "parameters": loaded.parameters,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
            "memory_bytes": loaded.memory,
            **self._changed_weights(loaded),
            "load_seconds": round(loaded.seconds, 2),
            **self._prompting(loaded),
            "context_length": loaded.plan.context,
            "image_token": getattr(loaded.processor, "image_token", None),
            "engine": engine,
            "continuous_batching": capabilities.in_flight,
            "engine_reason": capabilities.reason,
        }

    def notices(self) -> list[str]:
        """What people should know of the checkpoint; see `VLMModel.notices`."""
        loaded = self._require()
        expects = self._expects_template(loaded)
        return prompting.notices(loaded.maker.renderer, loaded.defaults, expects_template=expects)

    def _prompting(self, loaded: _Loaded) -> dict[str, str | None]:
        """What decides answers beside the weights."""
        template, tokenizer = loaded.processor.chat_template, loaded.tokenizer
        folder = checkpoint_folder(self.params)
        return {
            "chat_template": prompting.template_source(template, folder, self.params.chat_template),
            "content_style": prompting.content_style(loaded.maker.renderer),
            "thinking": prompting.thinking(loaded.maker.renderer),
            "end_tokens": prompting.end_tokens(loaded.ends, tokenizer, loaded.defaults.stop_strings),
            "special_tokens_kept": prompting.kept_special_tokens(loaded.stop.decoder, tokenizer),
            "generation_defaults": prompting.generation_defaults(loaded.defaults),
        }

    def _changed_weights(self, loaded: _Loaded) -> dict[str, str | int]:
        """What was done to the checkpoint's weights; nothing, for most models."""
        facts: dict[str, str | int] = {}
        if is_quantized(loaded.model):
            facts["quantization"] = self.params.quantization or "the checkpoint's own"
            facts["memory_bytes_unquantized"] = loaded.full_memory
        if self.params.adapter is not None:
            kept = is_quantized(loaded.model)
            facts["adapter"] = f"{self.params.adapter} ({'beside the weights' if kept else 'merged'})"
        return facts

    def fingerprint(self) -> str:
        """Identity of the weights and of what shapes the answers, from files and parameters alone."""
        shaping = self.params.model_dump(
            include={
                "path",
                "revision",
                "dtype",
                "processor_kwargs",
                "attn_implementation",
                "adapter",
                "quantization",
            }
        )
        # What was added later takes part only where it makes a difference, so that older runs can be resumed.
        folder = checkpoint_folder(self.params)
        later = self.params.model_dump(include={"chat_template", "skip_special_tokens"}, exclude_none=True)
        if self.params.chat_template_kwargs:
            later["chat_template_kwargs"] = self.params.chat_template_kwargs
        if later.get("chat_template") == NONE and (folder is None or not has_template(folder)):
            del later["chat_template"]
        shaping |= later
        digest = hashlib.blake2b(repr(sorted(shaping.items())).encode(), digest_size=16)
        chosen = Path(self.params.chat_template or "")
        if chosen.is_file():
            digest.update(b"chat template:" + chosen.read_bytes())
        for file in sorted(folder.iterdir()) if folder is not None else ():
            if file.suffix in {".json", ".safetensors", ".jinja", ".txt", ".model"} and file.is_file():
                digest.update(f"{file.name}:{file.stat().st_size}:".encode())
                digest.update(_sample(file))
        for file in adapter_files(self.params, download=False):
            digest.update(f"adapter {file.name}:{file.stat().st_size}:".encode())
            digest.update(_sample(file))
        return f"{type(self).__name__}:{digest.hexdigest()}"

    def _require(self) -> _Loaded:
        if self._loaded is None:
            raise self._not_loaded()
        return self._loaded


def _prompts_decoder(model: Any) -> bool:
    """Whether the encoder takes no text, so that a prompt is what the decoder starts from (Donut, TrOCR)."""
    return bool(model.config.is_encoder_decoder) and "input_ids" not in signature(model.forward).parameters


def _needs_image_tokens(processor: Any, model: Any) -> bool:
    """Whether a plain prompt must name its images itself, or the processor puts their places in."""
    from PIL import Image

    token = getattr(model.config, "image_token_id", None)
    if token is None:
        return False
    # A processor that refuses the trial wants its places named; what else it may refuse shows later.
    with suppress(Exception):
        ids = processor(text=["a"], images=[Image.new("RGB", (32, 32))], return_tensors="pt")["input_ids"]
        return bool((ids != token).all())
    return True


def _sample(file: Path, ends: int = 1 << 20, blocks: int = 256, block: int = 4 << 10) -> bytes:
    """Digest of a file's first and last MiB, and of blocks spread evenly over what lies between.

    In a safetensors file these are every tensor's name and shape, and some weights of whatever is large. A whole read
    would cost minutes for large models at every start.
    """
    digest = hashlib.blake2b(digest_size=16)
    with file.open("rb") as stream:
        between = os.fstat(stream.fileno()).st_size - 2 * ends
        if between <= blocks * block:
            digest.update(stream.read())
            return digest.digest()
        digest.update(stream.read(ends))
        for number in range(blocks):
            stream.seek(ends + (between - block) * number // (blocks - 1))
            digest.update(stream.read(block))
        stream.seek(-ends, os.SEEK_END)
        digest.update(stream.read(ends))
    return digest.digest()
