"""The embedded model `shapes`: a small Idefics3 that answers questions about drawn pictures.

It lives in the wheel so that the whole path (read, generate, write) can be tried without a download. The
modules here draw its pictures, ask its questions, train it and measure it; running it needs none of them, and
knows nothing about it: it is an ordinary checkpoint folder. Importing this package loads no torch.
"""

from __future__ import annotations

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
"""The checkpoint folder: weights, configuration, processor, tokenizer and chat template."""
