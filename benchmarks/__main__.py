"""`python -m benchmarks`: the workload through every peer in turn; a table of ratios and one JSON line.

Peers run alternately, each in a process of its own, so that a machine that slows down slows all of them. The
rate of a peer is the median of its rounds, in records per second, loading apart; the ratio to it is the median of
the rounds' ratios, since what ran within minutes of each other compares best.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.workload import SMOLVLM_256M, Shape, write_manifest, write_model

FOLDER = Path(__file__).parent


def run_peer(python: str, peer: str, model: Path, manifest: Path, dtype: str) -> dict[str, Any]:
    """One round of one peer."""
    command = [python, str(FOLDER / "peers.py"), peer, str(model), str(manifest)]
    environment = dict(
        os.environ,
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_VERBOSITY="error",
        PYTHONWARNINGS="ignore",
        BENCH_DTYPE=dtype,
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{peer} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def matmul_rate(dtype: str) -> float:
    """FLOP/s that a product of the vision encoder's shape reaches here: the best of many."""
    import torch

    left, right = (torch.randn(shape, dtype=getattr(torch, dtype)) for shape in ((1024, 768), (768, 3072)))
    best = float("inf")
    for _ in range(60):
        began = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - began)
    return 2 * 1024 * 768 * 3072 / best


def floor(shape: Shape, images: int, questions: int, tokens: int, rate: float) -> dict[str, float]:
    """Seconds below which the workload cannot go: every part at the rate of a matrix product, nothing twice."""
    patches = (shape.image_size // shape.patch_size) ** 2
    hidden, mlp = shape.vision_hidden, shape.vision_mlp
    layer = 2 * patches * (4 * hidden**2 + 2 * hidden * mlp) + 4 * patches**2 * hidden
    text = shape.text_layers * (
        2 * shape.text_hidden**2 * (1 + shape.text_kv_heads / shape.text_heads)
        + 3 * shape.text_hidden * shape.text_mlp
    )
    distinct = images * (shape.image_tokens + 10 + 20 * questions)
    head = shape.text_hidden * shape.vocabulary
    return {
        "vision": images * shape.vision_layers * layer / rate,
        "prefill": 2 * distinct * text / rate,
        "decode": 2 * tokens * (text + head) / rate,
    }


def main() -> None:
    """Writes the workload, runs the peers in turn, prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--questions", type=int, default=4, choices=(1, 2, 3, 4))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="alone,static,pipeline,pixano-vlm")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--vllm-python", help="a Python that has vLLM; adds it to the peers")
    options = parser.parse_args()
    peers = options.peers.split(",") + (["vllm"] if options.vllm_python else [])
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "model", dtype=options.dtype)
        manifest = write_manifest(Path(folder) / "work", options.images, options.questions)
        rounds: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
        for _ in range(options.rounds):
            for peer in peers:
                python = options.vllm_python if peer == "vllm" else sys.executable
                rounds[peer].append(run_peer(python, peer, model, manifest, options.dtype))
                last = rounds[peer][-1]
                print(
                    f"{peer}: {last['records'] / last['seconds']:.2f} records/s", file=sys.stderr, flush=True
                )
    by_round = {peer: [run["records"] / run["seconds"] for run in runs] for peer, runs in rounds.items()}
    rates = {peer: statistics.median(each) for peer, each in by_round.items()}
    ratios = {
        peer: statistics.median(
            ours / theirs for ours, theirs in zip(by_round["pixano-vlm"], each, strict=True)
        )
        for peer, each in by_round.items()
    }
    print(
        f"{options.images} images x {options.questions} questions, {options.dtype}, {platform.machine()}, "
        f"{os.cpu_count()} cores"
    )
    print(f"{'peer':<12} {'records/s':>10} {'ours is':>10}")
    for peer, rate in sorted(rates.items(), key=lambda item: item[1]):
        print(f"{peer:<12} {rate:>10.2f} {ratios[peer]:>9.2f}x")
    ours = min(rounds["pixano-vlm"], key=lambda run: run["seconds"])
    rate = matmul_rate(options.dtype)
    least = floor(SMOLVLM_256M, options.images, options.questions, ours["tokens"], rate)
    print(
        f"\nbest run: {ours['seconds']:.1f} s, {100 * ours['in_model']:.1f} % of it inside the model's calls"
    )
    print(f"{'part':<10} {'seconds':>8} {'floor':>8}   (floor: all at {rate / 1e9:.0f} GFLOP/s)")
    for part, seconds in least.items():
        print(f"{part:<10} {ours[part]:>8.2f} {seconds:>8.2f}")
    print(
        json.dumps(
            {"rates": by_round, "ratios": ratios, "ours": ours, "floor": least, "matmul_gflops": rate / 1e9}
        )
    )


if __name__ == "__main__":
    main()
