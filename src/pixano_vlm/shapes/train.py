"""Train the embedded model: `python -m pixano_vlm.shapes.train --out DIR --steps N --seed S`.

Each picture comes with a conversation of several questions, and only the answers count in the loss: asked
one question a picture, the model stalls at 82 % and never learns to single out one shape. Every batch follows
from the seed and the step alone, so a run that continues with `--resume` sees the batches it would have seen.

The checkpoint folder DIR is written every `CHECKPOINT_STEPS` steps, each file in one move, so that it can be
used during training; what else is needed to resume lies in a file of its own, by default DIR.state.pt.
A run begins with random weights, or with those of another checkpoint (`--weights`).
How well a checkpoint answers is logged and chooses nothing: what is shipped is the last one.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from torch.utils.data import DataLoader, Dataset

from .build import END, SYSTEM_PROMPTS, build_model, build_processor
from .card import TrainingFacts, write_card
from .draw import draw, random_scene
from .evaluate import answer, fresh_cases, load, region_scores, score
from .loss import BELL_STEPS, COORDINATE_WEIGHT, AnswerLoss, coordinate_tokens
from .questions import NO_PICTURE, REGION_KINDS, TRAINING_WEIGHTS, Question, ask_several

PICTURES_A_BATCH: Final = 32
PICTURES_AT_ONCE: Final = 16
"""How many of them run at once: what they need fits into a core's cache, and little of it is padding."""
QUESTIONS_A_PICTURE: Final = 7
PEAK_LEARNING_RATE: Final = 8e-4
WARM_UP_STEPS: Final = 150
CHECKPOINT_STEPS: Final = 250
CHECKPOINT_PICTURES: Final = 192
WITH_SYSTEM_PROMPT: Final = 0.08
WITHOUT_PICTURE: Final = 0.03
DESCRIPTION_LAST: Final = 0.75
IGNORED: Final = -100
"""The label of a token that is not in the loss."""


class Batches(Dataset[dict[str, torch.Tensor]]):
    """Batch `step` of a training run, made when it is asked for."""

    def __init__(self, seed: int, pictures: int = PICTURES_A_BATCH) -> None:
        self.seed = seed
        self.pictures = pictures
        self.processor = build_processor()
        tokenizer = self.processor.tokenizer
        self._end = tokenizer.convert_tokens_to_ids(END)
        # What stands right before every answer, and nowhere else.
        self._before_answer = tokenizer("\nAssistant:", add_special_tokens=False)["input_ids"]

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        """The tensors the model is trained on.

        `input_ids` and `labels` are `[pictures, tokens]`, padded on the right; `pixel_values` is
        `[pictures, 1, 3, 64, 64]`, all zeros where there is no picture, which the model leaves out.
        """
        rng = Random(f"shapes/train/{self.seed}/{step}")
        chats, pictures = [], []
        for _ in range(self.pictures):
            picture, scene = draw(random_scene(rng), rng)
            questions = ask_several(scene, rng, QUESTIONS_A_PICTURE, TRAINING_WEIGHTS)
            if rng.random() < DESCRIPTION_LAST:
                # What is asked after a description can be read off it; what is asked before must be seen.
                questions.sort(key=lambda question: question.kind in ("describe", "detect"))
            system = rng.choice(SYSTEM_PROMPTS) if rng.random() < WITH_SYSTEM_PROMPT else None
            with_picture = rng.random() >= WITHOUT_PICTURE
            chats.append(conversation(questions, system, with_picture=with_picture))
            pictures.append([picture] if with_picture else [])
        inputs = self.processor(
            text=self.processor.apply_chat_template(chats),
            images=pictures,
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        labels = torch.stack([self._answers_alone(row) for row in inputs["input_ids"]])
        return {"input_ids": inputs["input_ids"], "pixel_values": inputs["pixel_values"], "labels": labels}

    def _answers_alone(self, tokens: torch.Tensor) -> torch.Tensor:
        """The labels of one row: its tokens in answers, their end included, and `IGNORED` elsewhere."""
        row: list[int] = tokens.tolist()
        labels = [IGNORED] * len(row)
        lead = len(self._before_answer)
        for start in range(lead, len(row)):
            if row[start - lead : start] == self._before_answer:
                stop = row.index(self._end, start) + 1
                labels[start:stop] = row[start:stop]
        return torch.tensor(labels)


def conversation(
    questions: Sequence[Question], system: str | None = None, *, with_picture: bool = True
) -> list[dict[str, Any]]:
    """The chat in which all `questions` are asked about one picture, and rightly answered."""
    chat: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for number, question in enumerate(questions):
        text = [{"type": "text", "text": question.text}]
        image = [{"type": "image"}] if with_picture and number == 0 else []
        chat.append({"role": "user", "content": image + text})
        chat.append({"role": "assistant", "content": question.answer if with_picture else NO_PICTURE})
    return chat


def learning_rate(step: int, steps: int) -> float:
    """One cycle: up in a straight line, down to nothing along a cosine."""
    if step < WARM_UP_STEPS:
        return PEAK_LEARNING_RATE * (step + 1) / WARM_UP_STEPS
    done = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return PEAK_LEARNING_RATE * (1 + math.cos(math.pi * min(1.0, done))) / 2


@dataclass(slots=True)
class Trainer:
    """A training run: the model, its optimizer, and how far it has come."""

    out: Path
    steps: int
    seed: int
    model: Any
    processor: Any
    optimizer: torch.optim.AdamW
    state_file: Path
    loss: AnswerLoss
    pictures: int = PICTURES_A_BATCH
    has_begun_with_weights: bool = False
    note: str = ""
    step: int = 0
    seconds: float = 0.0

    @classmethod
    def start(
        cls,
        out: Path,
        steps: int,
        seed: int,
        state_file: Path | None = None,
        pictures: int = PICTURES_A_BATCH,
        weights: Path | None = None,
    ) -> Trainer:
        """A run from random weights, or from those in the checkpoint folder `weights`."""
        torch.manual_seed(seed)
        processor = build_processor()
        model = build_model(processor).train()
        if weights is not None:
            known, known_processor = load(weights)
            take_over(model, processor.tokenizer, known, known_processor.tokenizer.get_vocab())
        # On a CPU and at this size, plain attention takes two thirds of the time of torch's fused one.
        model.set_attn_implementation("eager")
        optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
        state_file = state_file or out.parent / f"{out.name}.state.pt"
        return cls(
            out,
            steps,
            seed,
            model,
            processor,
            optimizer,
            state_file,
            AnswerLoss(processor.tokenizer),
            pictures,
            has_begun_with_weights=weights is not None,
        )

    def run(self, *, workers: int = 1) -> None:
        """Train to the last step, writing checkpoints on the way and at the end."""
        began = time.monotonic() - self.seconds
        losses: list[float] = []
        for batch in self._batches(workers):
            losses.append(self._train_one(batch))
            self.step += 1
            self.seconds = time.monotonic() - began
            if self.step % 50 == 0:
                recent = sum(losses[-50:]) / len(losses[-50:])
                report(f"step {self.step}/{self.steps} loss {recent:.4f} {self.seconds:.0f} s")
            if self.step % CHECKPOINT_STEPS == 0:
                self.checkpoint()
        if self.step % CHECKPOINT_STEPS or not losses:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write the state and the checkpoint folder, and log how well the model answers now."""
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        half_written = self.state_file.with_name(f"{self.state_file.name}.new")
        torch.save(state, half_written)
        half_written.replace(self.state_file)
        facts = TrainingFacts(
            steps=self.step,
            planned_steps=self.steps,
            seed=self.seed,
            minutes=self.seconds / 60,
            machine=f"{torch.get_num_threads()} {platform.machine()} CPU cores",
            pictures_a_step=self.pictures,
            questions_a_picture=QUESTIONS_A_PICTURE,
            with_system_prompt=WITH_SYSTEM_PROMPT,
            without_picture=WITHOUT_PICTURE,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            description_last=DESCRIPTION_LAST,
            peak_learning_rate=PEAK_LEARNING_RATE,
            bell_steps=BELL_STEPS,
            coordinate_weight=COORDINATE_WEIGHT,
            has_begun_with_weights=self.has_begun_with_weights,
            note=self.note,
        )
        export(self.model, self.processor, facts, self.out)
        self.model.eval()
        # Seed -1: neither the pictures of the final measurement (seeds from 0) nor those of training.
        cases = list(fresh_cases(CHECKPOINT_PICTURES, -1))
        scores = score(cases, answer(self.model, self.processor, cases))
        cases = list(fresh_cases(CHECKPOINT_PICTURES // 2, -1, REGION_KINDS))
        regions = region_scores(cases, answer(self.model, self.processor, cases))
        self.model.train()
        shares = ", ".join(f"{kind} {result.share:.0%}" for kind, result in scores.items())
        shares += "".join(f", {kind} IoU {regions[kind].mean_iou:.2f}" for kind in ("box", "detect"))
        shares += f", points inside {regions['point'].inside:.0%}"
        report(f"checkpoint {self.step}: {shares}")

    def resume(self) -> None:
        """Resume from the last checkpoint's state."""
        state = torch.load(self.state_file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _batches(self, workers: int) -> Iterator[dict[str, torch.Tensor]]:
        batches, steps_left = Batches(self.seed, self.pictures), range(self.step, self.steps)
        return iter(DataLoader(batches, batch_size=None, sampler=steps_left, num_workers=workers))

    def _train_one(self, batch: dict[str, torch.Tensor]) -> float:
        """One optimizer step; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        lengths = (batch["input_ids"] != self.processor.tokenizer.pad_token_id).sum(1)
        in_answers = int((batch["labels"] != IGNORED).sum())
        total = 0.0
        for rows in lengths.argsort().split(PICTURES_AT_ONCE):
            # No attention mask: padding on the right cannot be seen by what stands left of it, and is not in the
            # loss. The head runs on the tokens that come right before an answer's, a third of all.
            tokens = batch["input_ids"][rows, : int(lengths[rows].max())]
            labels = batch["labels"][rows, 1 : tokens.shape[1]]
            wanted = labels != IGNORED
            with torch.autocast("cpu", dtype=torch.bfloat16):
                hidden = self.model.model(
                    input_ids=tokens, pixel_values=batch["pixel_values"][rows], use_cache=False
                ).last_hidden_state
                logits = self.model.lm_head(hidden[:, :-1][wanted])
            loss = self.loss(logits, labels[wanted]) * (int(wanted.sum()) / in_answers)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return total


@torch.no_grad()
def take_over(model: Any, tokenizer: Any, known: Any, known_rows: dict[str, int]) -> None:
    """Give `model` the weights of the model `known`, whose tokens may be others.

    The rows of a token that both have are copied. A new one begins near the mean of the old rows; coordinates lie on
    smooth curves about it, so that numbers close to each other begin alike.

    Args:
        model: Its text half has a row for every token of `tokenizer`.
        tokenizer: Knows every coordinate as one token.
        known: A model of the same widths and depths.
        known_rows: The row of each of its tokens.
    """
    wide = ("model.text_model.embed_tokens.weight", "lm_head.weight")
    before, after = known.state_dict(), model.state_dict()
    for name, weight in before.items():
        if name not in wide:
            after[name].copy_(weight)
    for name in wide:
        mean, spread = before[name].mean(0), before[name].std(0)
        after[name].copy_(mean + 0.3 * spread * torch.randn(after[name].shape))
        for form in coordinate_tokens(tokenizer):
            share = torch.linspace(0, 1, len(form))[:, None]
            waves = torch.cos(math.pi * share * torch.arange(1, 9)) @ torch.randn(8, mean.numel()) / 8**0.5
            after[name][form] = mean + spread * waves
        for token, row in tokenizer.get_vocab().items():
            if token in known_rows:
                after[name][row] = before[name][known_rows[token]]


def export(model: Any, processor: Any, facts: TrainingFacts, out: Path) -> None:
    """Write model, processor and card into the folder `out`, each file in one move."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        write_card(Path(folder), facts)
        for file in Path(folder).iterdir():
            # Weights are saved for their owner's eyes only; a wheel would install them so.
            file.chmod(0o644)
            file.replace(out / file.name)


def report(line: str) -> None:
    """Log one line to stderr."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m pixano_vlm.shapes.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint folder to write")
    parser.add_argument("--steps", type=int, default=3000, help="optimizer steps in all (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, pictures and questions (%(default)s)"
    )
    parser.add_argument("--state", type=Path, help="the file to resume from (DIR.state.pt)")
    parser.add_argument("--resume", action="store_true", help="resume from the state's file")
    parser.add_argument("--weights", type=Path, help="the checkpoint folder to begin with (random weights)")
    parser.add_argument("--note", default="", help="put into the card: what the options do not say")
    parser.add_argument("--pictures", type=int, default=PICTURES_A_BATCH, help="per batch (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw batches (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (%(default)s)")
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    trainer = Trainer.start(
        options.out, options.steps, options.seed, options.state, options.pictures, options.weights
    )
    trainer.note = options.note
    if options.resume:
        trainer.resume()
    trainer.run(workers=options.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
