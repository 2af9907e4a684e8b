"""LightSUAN: sparse against dense attention, its memory, and serving many candidates at once.

    .venv/bin/python benchmarks/light.py [attention | memory | serving ...]

Prints a table and updates benchmarks/results/light.json. Ratios are of CPU times of one thread, measured in turn
within this run, medians over rounds; absolute times belong to this machine.
"""

import json
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path

import torch

from models.sparse_attention import gap_buckets, sparse_attention, sparse_bias
from models.sparse_pattern import SparsePattern, fit_tiles
from sweeps.job import prepare_process

WIDTH, HEADS, ROUNDS = 64, 4, 9
CASES = {200: (8, 8, 16), 500: (4, 16, 16), 1000: (2, 32, 32), 2000: (1, 32, 32)}  # L: batch, k, r


def alternate(calls: dict, rounds: int = ROUNDS, repeats: int = 2) -> dict[str, float]:
    """Median CPU seconds of each call, measured in turn."""
    for call in calls.values():
        call(), call()
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.process_time()
            for _ in range(repeats):
                call()
            times[name].append((time.process_time() - begin) / repeats)
    return {name: statistics.median(values) for name, values in times.items()}


class Case:
    """Attention with its bias over one batch, sparse and dense; the same function."""

    def __init__(self, batch: int, length: int, pattern: SparsePattern) -> None:
        torch.manual_seed(0)
        self.pattern, self.length = pattern, length
        self.qkv = torch.randn(batch, length, 3 * WIDTH, requires_grad=True)
        self.position = torch.randn(length, requires_grad=True)
        self.time = torch.randn(129, requires_grad=True)
        gaps = torch.exp(torch.randn(batch, length) * 3 + 5).long()
        self.times = 1_700_000_000 + gaps.cumsum(1)
        self.lengths = torch.full((batch,), length)
        self.grad = torch.randn(batch, length, WIDTH)
        index = torch.arange(length)
        self.distance = index[:, None] - index
        self.unread = ~pattern.reads(self.distance)

    def sparse(self) -> torch.Tensor:
        tiles = fit_tiles(self.pattern, self.length)
        bias = sparse_bias(self.position, self.time, self.times, self.lengths, tiles)
        return sparse_attention(self.qkv, bias, HEADS, tiles)

    def dense(self) -> torch.Tensor:
        """Torch's attention; the tables are looked up in the fastest way that plain torch has."""
        batch = len(self.qkv)
        buckets = gap_buckets(self.times[:, :, None] - self.times[:, None, :])
        bias = self.time.index_select(0, buckets.view(-1)).view(buckets.shape)
        distance = self.distance.clamp(min=0)
        bias = bias + self.position.index_select(0, distance.view(-1)).view(distance.shape)
        bias = bias.masked_fill(self.unread, -1e9)
        q, k, v = (
            part.view(batch, self.length, HEADS, -1).transpose(1, 2)
            for part in self.qkv.chunk(3, -1)
        )
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None])
        return out.transpose(1, 2).reshape(batch, self.length, -1)

    def training(self, attention) -> None:
        leaves = [self.qkv, self.position, self.time]
        torch.autograd.grad(attention(), leaves, self.grad)


def forward(attention) -> None:
    with torch.inference_mode():
        attention()


def attention_speed() -> list[dict[str, float]]:
    rows = []
    for length, (batch, window, dilation) in CASES.items():
        case = Case(batch, length, SparsePattern(window, dilation))
        seconds = alternate(
            {
                "dense": lambda case=case: case.training(case.dense),
                "sparse": lambda case=case: case.training(case.sparse),
                "dense_forward": lambda case=case: forward(case.dense),
                "sparse_forward": lambda case=case: forward(case.sparse),
            }
        )
        rows.append(
            {
                "L": length,
                "k": window,
                "r": dilation,
                "batch": batch,
                "largest_difference": (case.sparse() - case.dense()).abs().max().item(),
                **{f"{name}_ms": 1e3 * value for name, value in seconds.items()},
                "speed_up": seconds["dense"] / seconds["sparse"],
                "speed_up_forward": seconds["dense_forward"] / seconds["sparse_forward"],
            }
        )
    return rows


def peak_mib(arguments: tuple[str, int, int, int]) -> float:
    """Peak resident memory that forward and backward add, in a process of its own."""
    name, length, window, dilation = arguments
    torch.set_num_threads(1)
    small = Case(1, 64, SparsePattern(window, dilation))
    small.training(getattr(small, name))
    case = Case(1, length, SparsePattern(window, dilation))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    case.training(getattr(case, name))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10


def memory() -> list[dict[str, float]]:
    rows = []
    for length in (1000, 2000, 4000, 8000):
        row = {"L": length, "k": 32, "r": 32}
        for name in ("sparse", "dense"):
            if name == "sparse" or length <= 4000:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    row[f"{name}_mib"] = pool.map(peak_mib, [(name, length, 32, 32)])[0]
        rows.append(row)
    return rows


PARTS = {"attention": attention_speed, "memory": memory}


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    path = Path(__file__).parent / "results" / "light.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    result["torch"] = torch.__version__
    for name in sys.argv[1:] or PARTS:
        result[name] = PARTS[name]()
        print(name, json.dumps(result[name], indent=2), sep="\n")
        if name == "attention":  # and as training does it: freed memory is kept
            prepare_process()
            result["attention_kept_memory"] = PARTS[name]()
            print(json.dumps(result["attention_kept_memory"], indent=2))
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
