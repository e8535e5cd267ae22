"""Whether each architecture of transformers' image-text-to-text mapping runs, and whether batching changes its
answers.

    python -m tests.conformance run [--types a,b] -o results.json
    python -m tests.conformance write results-plain.json results-torchvision.json

The first runs the tiny checkpoints of `tests.tiny` through `TransformersVLMModel`, each token held against
transformers' `generate` on the record alone. The second makes `models.json` and `models.md` in docs/reference of what
the first found in one environment or several.
"""
