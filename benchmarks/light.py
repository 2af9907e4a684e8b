"""LightSUAN: sparse against dense attention, its memory, and serving many candidates at once.

    .venv/bin/python benchmarks/light.py [attention | memory | crossover | serving | compiled | gpu ...]

Prints a table and updates benchmarks/results/light.json. Ratios are of CPU times of one thread, measured in turn
within this run, medians over rounds; absolute times belong to this machine.
"""

import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.attention import (
    Layout,
    RelativeBias,
    SelfAttention,
    gap_buckets,
    sparse_attention,
    sparse_bias,
    sparse_pays,
)
from models.attention import bias as bias_module
from models.grades import Grade
from models.kinds.building import build_model
from models.model_options import SuanOptions
from models.scoring import Scorer, compile_scoring
from models.sparse_pattern import SparsePattern, fit_tiles
from scaling.process import prepare_process
from scaling.serving.latency_bench import random_candidates, random_history, ways_to_score
from scaling.store import Feature, Schema

WIDTH, HEADS, ROUNDS = 64, 4, 21
CASES = {200: (8, 8, 16), 500: (4, 16, 16), 1000: (2, 32, 32), 2000: (1, 32, 32)}  # L: batch, k, r


def alternate(calls: dict, rounds: int = ROUNDS, repeats: int = 1) -> dict[str, float]:
    """Median CPU seconds of each call, measured in turn, so that other load on the machine affects all equally."""
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
    """Attention with its bias over one batch, sparse and dense; both compute the same function."""

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

    def sparse(self) -> Tensor:
        tiles = fit_tiles(self.pattern, self.length)
        bias = sparse_bias(self.position, self.time, self.times, self.lengths, tiles)
        return sparse_attention(self.qkv, bias, HEADS, tiles)

    def dense(self) -> Tensor:
        """Torch's attention; the tables are looked up in the fastest way that plain torch has."""
        batch, index = len(self.qkv), torch.arange(self.length, device=self.qkv.device)
        distance = index[:, None] - index
        unread = ~self.pattern.reads(distance)
        buckets = gap_buckets(self.times[:, :, None] - self.times[:, None, :])
        bias = self.time.index_select(0, buckets.view(-1)).view(buckets.shape)
        distance = distance.clamp(min=0)
        bias = bias + self.position.index_select(0, distance.view(-1)).view(distance.shape)
        bias = bias.masked_fill(unread, -1e9)
        q, k, v = (
            part.view(batch, self.length, HEADS, -1).transpose(1, 2)
            for part in self.qkv.chunk(3, -1)
        )
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None])
        return out.transpose(1, 2).reshape(batch, self.length, -1)

    def training(self, attend) -> None:
        leaves = [self.qkv, self.position, self.time]
        torch.autograd.grad(attend(), leaves, self.grad)

    def to(self, device: str, dtype: torch.dtype) -> "Case":
        for name in ("qkv", "position", "time"):
            moved = getattr(self, name).detach().to(device, dtype)
            setattr(self, name, moved.requires_grad_())
        self.times, self.lengths = self.times.to(device), self.lengths.to(device)
        self.grad = self.grad.to(device, dtype)
        return self


def forward(attend) -> None:
    with torch.inference_mode():
        attend()


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
    """Peak resident memory that forward and backward add, in a process of its own (Linux)."""
    name, length, window, dilation = arguments
    torch.set_num_threads(1)
    case = Case(1, length, SparsePattern(window, dilation))
    small = Case(1, 64, SparsePattern(window, dilation))
    small.training(getattr(small, name))
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak counts from here
    before = resident_peak()
    case.training(getattr(case, name))
    return (resident_peak() - before) / 2**10


def resident_peak() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0])


def memory() -> list[dict[str, float]]:
    rows = []
    for length in (1000, 2000, 4000, 8000):
        row = {"L": length, "k": 32, "r": 32}
        for name in ("sparse", "dense"):
            if name == "sparse" or length <= 2000:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    row[f"{name}_mib"] = pool.map(peak_mib, [(name, length, 32, 32)])[0]
        rows.append(row)
    return rows


def crossover() -> list[dict[str, float]]:
    """Two attention layers with a shared bias, one user: from which length sparse is faster."""
    rows = []
    for window, dilation in ((8, 16), (16, 16), (32, 32)):
        pattern = SparsePattern(window, dilation)
        for length in (50, 100, 150, 200, 300, 500):
            layer, bias = (
                SelfAttention(WIDTH, HEADS),
                RelativeBias(length, position=True, time=True),
            )
            x = torch.randn(1, length, WIDTH)
            times = torch.randint(0, 10**6, (1, length)).cumsum(1)
            layout = Layout(torch.tensor([length]), length, 0, None, pattern)

            def run(sparse, layer=layer, bias=bias, x=x, times=times, layout=layout, n=length):
                bias_module.sparse_pays = lambda *_: sparse
                with torch.inference_mode():
                    added = bias(times, layout, torch.float32, skip_future=True)
                    layer(layer(x, added, n), added, n)

            seconds = alternate(
                {"dense": lambda run=run: run(False), "sparse": lambda run=run: run(True)},
                rounds=9,
                repeats=20,
            )
            rows.append(
                {
                    "L": length,
                    "k": window,
                    "r": dilation,
                    "speed_up": seconds["dense"] / seconds["sparse"],
                    "chosen": "sparse" if sparse_pays(pattern, length) else "dense",
                }
            )
    bias_module.sparse_pays = sparse_pays
    return rows


def schema() -> Schema:
    sizes = {"item": 10_000, "shop": 2000, "category": 500, "area": 300}
    profile = ("user_type", "gender", "city", "level", "clicks", "orders")
    return Schema(
        behaviour=tuple(Feature(n, n) for n in sizes),
        candidate=tuple(Feature(n, n) for n in sizes),
        context=(Feature("hour", "hour"),),
        profile=tuple(Feature(n, n) for n in profile),
        vocabularies=sizes | dict.fromkeys(profile, 50) | {"hour": 26},
    )


def serving(n_candidates: int = 100) -> list[dict[str, float]]:
    """2 layers, D = 64, 4 heads: ways to score a request with one model; all give the same scores."""
    rows, features, rng = [], schema(), np.random.default_rng(0)
    light = {
        200: SuanOptions(kind="lightsuan", window=8, dilation=16),
        1000: SuanOptions(kind="lightsuan", window=32, dilation=32),
    }
    for length in light:
        for options in (SuanOptions(), light[length]):
            model = build_model(Grade(2, 4, 16, length), options, features, base_rate=0.3, seed=0)
            model.eval()
            history = random_history(features, length, rng)
            request = random_candidates(features, n_candidates, int(history.times[-1]) + 60, rng)
            ways = ways_to_score(model, features, history)
            single = ways.pop("single")

            def dense(single=single, history=history, request=request):
                bias_module.sparse_pays = lambda *_: False
                scores = single(history, request)
                bias_module.sparse_pays = sparse_pays
                return scores

            calls = {n: lambda w=w, h=history, r=request: w(h, r) for n, w in ways.items()}
            single_calls = {"single_dense": dense}
            if options.kind == "lightsuan":
                single_calls["single"] = lambda s=single, h=history, r=request: s(h, r)
            seconds = alternate(calls, rounds=9, repeats=3) | alternate(
                single_calls, rounds=2, repeats=1
            )
            expected = np.array(dense())
            found = np.stack([np.asarray(way(history, request)) for way in ways.values()])
            rows.append(
                {
                    "L": length,
                    "kind": options.kind,
                    "k": options.window,
                    "r": options.dilation,
                    "candidates": n_candidates,
                    "largest_difference": float(np.abs(found - expected).max()),
                    **{f"{name}_ms": 1e3 * value for name, value in seconds.items()},
                    "parallel_against_single_dense": seconds["single_dense"] / seconds["parallel"],
                    "parallel_against_single": seconds.get("single", seconds["single_dense"])
                    / seconds["parallel"],
                    "cached_against_parallel": seconds["parallel"] / seconds["cached"],
                }
            )
    return rows


def compiled(n_candidates: int = 100) -> list[dict[str, float]]:
    """A cached request, eager and compiled ahead of time (minutes, with a C++ compiler)."""
    rows, features, rng = [], schema(), np.random.default_rng(0)
    for length, window, dilation in ((200, 8, 16), (1000, 32, 32)):
        options = SuanOptions(kind="lightsuan", window=window, dilation=dilation)
        model = build_model(Grade(2, 4, 16, length), options, features, base_rate=0.3, seed=0)
        eager, ahead = Scorer(model, features), Scorer(model, features)
        history = random_history(features, length, rng)
        request = random_candidates(features, n_candidates, int(history.times[-1]) + 60, rng)
        state = eager.encode(history)
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            compile_scoring(model, state, Path(folder) / "scoring.pt2")
            compile_seconds = time.perf_counter() - begin
            ahead.use_compiled(Path(folder) / "scoring.pt2")
            calls = {
                "eager": lambda s=eager, u=state, r=request: s.score(u, r),
                "compiled": lambda s=ahead, u=state, r=request: s.score(u, r),
            }
            difference = np.abs(calls["eager"]() - calls["compiled"]()).max()
            seconds = alternate(calls, repeats=10)
        rows.append(
            {
                "L": length,
                "candidates": n_candidates,
                "compile_seconds": compile_seconds,
                "largest_difference": float(difference),
                **{f"{name}_ms": 1e3 * value for name, value in seconds.items()},
                "speed_up": seconds["eager"] / seconds["compiled"],
            }
        )
    return rows


def gpu() -> list[dict[str, float]]:
    """bf16 on a GPU: FlexAttention, the tiles and dense attention, forward and backward; empty without one."""
    if not torch.cuda.is_available():
        return []
    from models.attention import FlexBias, flex_sparse_attention

    rows = []
    for length in (1000, 2000):
        case = Case(16, length, SparsePattern(32, 32)).to("cuda", torch.bfloat16)
        bias = FlexBias(case.pattern, case.position, case.time, case.times, case.lengths)
        calls = {
            "dense": case.dense,
            "tiles": case.sparse,
            "flex": lambda case=case, bias=bias: flex_sparse_attention(case.qkv, bias, HEADS),
        }
        row: dict[str, float] = {"L": length, "batch": 16, "k": 32, "r": 32}
        for name, call in calls.items():
            for _ in range(3):
                case.training(call)
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(20):
                case.training(call)
            torch.cuda.synchronize()
            row[f"{name}_ms"] = 1e3 * (time.perf_counter() - begin) / 20
        rows.append(row)
    return rows


PARTS = {
    "attention": attention_speed,
    "memory": memory,
    "crossover": crossover,
    "serving": serving,
    "compiled": compiled,
    "gpu": gpu,
}


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    path = Path(__file__).parent / "results" / "light.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    result["torch"] = torch.__version__
    wanted = sys.argv[1:] or list(PARTS)
    for name in wanted:
        if name in ("crossover", "serving", "compiled"):
            prepare_process()  # freed memory is reused, as in training and serving
        result[name] = PARTS[name]()
        print(name, json.dumps(result[name], indent=2), sep="\n", flush=True)
    if "attention" in wanted:
        prepare_process()
        result["attention_memory_kept"] = attention_speed()
        print("attention, freed memory kept", json.dumps(result["attention_memory_kept"], indent=2))
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
