"""Training steps of every grade on a GPU: speed, share of its peak, and time outside kernels.

    .venv/bin/python benchmarks/gpu.py [--device cuda] [--grades SUAN-0,SUAN-9] [--batch 1024]

Against the plain eager model of plain_suan.py in the same run. The peak is measured: the rate of large
matrix products in the same precision on the same device. Writes benchmarks/results/gpu.json; with
`--device cpu` it runs the same code, prints that this is a rehearsal, and writes nothing.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parent))
from plain_suan import PlainSUAN
from train_step import random_batch, schema

from models.accounting import model_size
from models.grades import GRADES
from models.kinds.building import build_model
from models.model_options import SuanOptions
from scaling.study import BETAS
from scaling.training import autocast, build_optimisers, compile_blocks

STEPS = 20


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def peak_flops_per_second(device: str, precision: str) -> float:
    size = 8192 if device != "cpu" else 512
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(size, size, device=device, dtype=dtype) for _ in range(2))
    with autocast(device, precision):
        a @ b
        synchronize(device)
        best = 0.0
        for _ in range(5):
            begin = time.perf_counter()
            for _ in range(3):
                a @ b
            synchronize(device)
            best = max(best, 3 * 2 * size**3 / (time.perf_counter() - begin))
    return best


def stepper(model, optimisers, batches, device, precision):
    """One training step over the next batch, as a function."""
    queue = iter(batches * (STEPS * 10))

    def step() -> None:
        batch = next(queue)
        for optimiser in optimisers:
            optimiser.zero_grad()
        with autocast(device, precision):
            logits = model(batch).float()
        torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.label).backward()
        for optimiser in optimisers:
            optimiser.step()

    return step


def seconds_per_step(step, device: str) -> float:
    for _ in range(5):
        step()
    rounds = []
    for _ in range(3):
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(STEPS):
            step()
        synchronize(device)
        rounds.append((time.perf_counter() - begin) / STEPS)
    return statistics.median(rounds)


def busy_share(step, device: str) -> float | None:
    """Share of the wall-clock time in which a kernel runs."""
    if device == "cpu":
        return None
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as trace:
        begin = time.perf_counter()
        for _ in range(STEPS):
            step()
        synchronize(device)
        wall = time.perf_counter() - begin
    # the rows of operations on the host repeat the time of their kernels
    rows = [row for row in trace.key_averages() if row.device_type == DeviceType.CUDA]
    kernels = sum(row.self_device_time_total for row in rows)
    return kernels * 1e-6 / wall


def to(batch, device):
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(
        batch, **{name: value.to(device) for name, value in values.items() if value is not None}
    )


def measure(name: str, device: str, batch_size: int) -> list[dict[str, object]]:
    features, grade = schema(), GRADES[name]
    # memory: as many samples as fit a part of half a million tokens
    batch_size = max(8, min(batch_size, 2**19 // (grade.max_len + 1)))
    batches = [
        to(random_batch(features, batch_size, grade.max_len, seed), device) for seed in range(3)
    ]
    flops = model_size(grade, SuanOptions(), features).training_flops(batch_size)
    ways = [("plain eager", "float32", False), ("ours", "float32", False), ("ours", "bf16", False)]
    if device != "cpu":
        ways[2:2] = [("ours", "tf32", False)]
        ways += [("ours", "float32", True), ("ours", "bf16", True)]
    rows = []
    for what, precision, compiled in ways:
        model = build_model(grade, SuanOptions(), features, base_rate=0.3, seed=0)
        if what == "plain eager":
            model = PlainSUAN(model, features).to(device)
            optimisers = [torch.optim.AdamW(model.parameters(), betas=BETAS)]
        else:
            model = model.to(device)
            optimisers = list(build_optimisers(model))
            if compiled:
                compile_blocks(model, device)
        step = stepper(model, optimisers, batches, device, precision)
        seconds = seconds_per_step(step, device)
        rows.append(
            {
                "grade": name,
                "way": what,
                "precision": precision,
                "compiled": compiled,
                "batch": batch_size,
                "samples_per_second": batch_size / seconds,
                "share_of_peak": flops / seconds / peak_flops_per_second(device, precision),
                "busy_share": busy_share(step, device),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--grades", default=",".join(GRADES))
    parser.add_argument("--batch", type=int, default=1024)
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cpu":
        print("rehearsal on a CPU: the figures say nothing about a GPU and are not saved")
    rows = [
        row
        for name in arguments.grades.split(",")
        for row in measure(name, device, arguments.batch)
    ]
    if device == "cpu":
        return
    result = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(),
        "peak_flops_per_second": {
            precision: peak_flops_per_second(device, precision)
            for precision in ("float32", "tf32", "bf16")
        },
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / "gpu.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
