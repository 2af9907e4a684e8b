"""Training steps: ours against the plain model, against the core's matrix products, over table sizes.

    .venv/bin/python benchmarks/train_step.py [--quick]

Prints a table and writes benchmarks/results/train_step.json. Every ratio is of CPU times measured in
turn within this run, medians over rounds; absolute speeds belong to this machine.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from plain_suan import PlainSUAN

from models.accounting import model_size
from models.ctr_model import Batch
from models.grades import Grade
from models.kinds.building import build_model
from models.model_options import SuanOptions
from scaling.process import prepare_process
from scaling.store import Feature, Schema
from scaling.study import BETAS, TOKENS_PER_PART
from scaling.training import build_optimisers

ROUNDS = 5


def schema(n_items: int = 10_000) -> Schema:
    names = ("item", "shop", "category", "area", "action")
    profile = ("user_type", "gender", "city", "level", "clicks", "orders")
    sizes = {"item": n_items, "shop": 2000, "category": 500, "area": 300, "action": 6}
    return Schema(
        behaviour=tuple(Feature(n, n) for n in names),
        candidate=tuple(Feature(n, n) for n in names[:4]),
        context=(Feature("hour", "hour"),),
        profile=tuple(Feature(n, n) for n in profile),
        vocabularies=sizes | dict.fromkeys(profile, 50) | {"hour": 26},
    )


def random_batch(schema: Schema, size: int, length: int, seed: int) -> Batch:
    rng = np.random.default_rng(seed)

    def ids(features, *shape):
        columns = [
            rng.zipf(1.2, shape) % (schema.vocabularies[f.vocabulary] - 2) + 2 for f in features
        ]
        return torch.from_numpy(np.stack(columns, -1))

    gaps = np.exp(rng.normal(5, 3, (size, length + 1))).astype(np.int64)
    return Batch(
        behaviours=ids(schema.behaviour, size, length),
        times=torch.from_numpy(1_700_000_000 + gaps.cumsum(1)),
        hours=torch.from_numpy(rng.integers(1, 25, (size, length + 1))),
        lengths=torch.full((size,), length),
        candidate=ids(schema.candidate, size),
        context=ids(schema.context, size),
        profile=ids(schema.profile, size),
        numeric=torch.empty(size, 0),
        label=torch.from_numpy(rng.integers(0, 2, size).astype(np.float32)),
    )


def backward(model, part, n_samples):
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        model(part), part.label, reduction="sum"
    )
    (loss / n_samples).backward()


def parts(model, batch):
    """Forward and backward in parts of few tokens, as training does."""
    n_parts = max(1, batch.times.numel() // TOKENS_PER_PART)
    for rows in torch.arange(len(batch.label)).chunk(n_parts):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        values = {f.name: getattr(batch, f.name) for f in fields(batch)}
        cut = {name: value if value is None else value[part] for name, value in values.items()}
        backward(model, Batch(**cut), batch.label.numel())


def our_step(model):
    optimisers = build_optimisers(model)

    def step(batch):
        for optimiser in optimisers:
            optimiser.zero_grad()
        parts(model, batch)
        for optimiser in optimisers:
            optimiser.step()

    return step


def plain_step(model):
    optimiser = torch.optim.AdamW(model.parameters(), betas=BETAS)

    def step(batch):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch), batch.label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def cpu_seconds(step, batches) -> float:
    begin = time.process_time()
    for batch in batches:
        step(batch)
    return (time.process_time() - begin) / len(batches)


def alternate(steps: dict, batches, rounds: int = ROUNDS) -> dict[str, float]:
    """Median CPU seconds per step of each, measured in turn."""
    for step in steps.values():
        cpu_seconds(step, batches[:2])
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(cpu_seconds(step, batches))
    return {name: statistics.median(values) for name, values in times.items()}


def large_products(size: int = 512, count: int = 5):
    """A call that multiplies large matrices, and its FLOPs; the rate that training steps are held against."""
    a, b = torch.rand(size, size), torch.rand(size, size)

    def multiply(_):
        for _ in range(count):
            a @ b

    return multiply, count * 2 * size**3


def share_of_products(step, batches, flops: float, rounds: int = ROUNDS) -> dict[str, float]:
    """FLOPs per CPU second of a step, and as a share of those of large matrix products, measured in turn."""
    multiply, of_products = large_products()
    seconds = alternate({"products": multiply, "ours": step}, batches, rounds)
    rate, peak = flops / seconds["ours"], of_products / seconds["products"]
    return {
        "gflop_per_second": rate / 1e9,
        "gemm_gflop_per_second": peak / 1e9,
        "share_of_gemm": rate / peak,
    }


def against_plain(length: int, batch_size: int) -> dict[str, float]:
    features = schema()
    grade = Grade(2, 2, 8, length)
    ours = build_model(grade, SuanOptions(), features, base_rate=0.3, seed=0)
    plain = PlainSUAN(ours, features)
    batches = [random_batch(features, batch_size, length, seed) for seed in range(4)]
    seconds = alternate({"plain": plain_step(plain), "ours": our_step(ours)}, batches)
    return {
        "L": length,
        "batch": batch_size,
        "plain_samples_per_second": batch_size / seconds["plain"],
        "our_samples_per_second": batch_size / seconds["ours"],
        "speed_up": seconds["plain"] / seconds["ours"],
    }


def utilisation(grade: Grade, batch_size: int) -> dict[str, float]:
    features = schema()
    model = build_model(grade, SuanOptions(), features, base_rate=0.3, seed=0)
    batches = [random_batch(features, batch_size, grade.max_len, seed) for seed in range(3)]
    flops = model_size(grade, SuanOptions(), features).training_flops(batch_size)
    return {
        "D": grade.d * 5,
        "layers": grade.n_layers,
        "L": grade.max_len,
        "batch": batch_size,
        **share_of_products(our_step(model), batches, flops),
    }


def packed(
    length: int, n_candidates: int, n_layers: int = 2, n_passes: int = 8
) -> dict[str, float]:
    """One pass for a request's candidates against one pass each, the same impressions."""
    features = schema()
    model = build_model(
        Grade(n_layers, 2, 8, length), SuanOptions(), features, base_rate=0.3, seed=0
    )
    single, shared = [], []
    for seed in range(3):
        batch = random_batch(features, n_passes * n_candidates, length, seed)
        single.append(batch)
        shape = (n_passes, n_candidates)
        first = slice(None, None, n_candidates)
        requests = batch.times[first, -1:].expand(shape), batch.hours[first, -1:].expand(shape)
        shared.append(
            replace(
                batch,
                behaviours=batch.behaviours[first],
                times=torch.cat([batch.times[first, :-1], requests[0]], 1),
                hours=torch.cat([batch.hours[first, :-1], requests[1]], 1),
                lengths=batch.lengths[first],
                profile=batch.profile[first],
                candidate=batch.candidate.view(*shape, -1),
                context=batch.context.view(*shape, -1),
                numeric=batch.numeric.view(*shape, -1),
                label=batch.label.view(shape),
            )
        )

    def forward_backward(batches):
        for batch in batches:
            parts(model, batch)

    seconds = {"single": [], "packed": []}
    for _ in range(ROUNDS + 1):
        for name, batches in (("single", single), ("packed", shared)):
            begin = time.process_time()
            forward_backward(batches)
            seconds[name].append((time.process_time() - begin) / len(batches))
    one, many = (statistics.median(seconds[name][1:]) for name in ("single", "packed"))
    return {
        "L": length,
        "layers": n_layers,
        "candidates": n_candidates,
        "single_samples_per_second": n_passes * n_candidates / one,
        "packed_samples_per_second": n_passes * n_candidates / many,
        "speed_up": one / many,
    }


def table_sizes() -> list[dict[str, float]]:
    grade = Grade(2, 2, 8, 50)
    steps, all_batches = {}, {}
    for n_items in (10**4, 10**5, 10**6, 10**7):
        features = schema(n_items)
        model = build_model(grade, SuanOptions(), features, base_rate=0.3, seed=0)
        steps[n_items] = our_step(model)
        all_batches[n_items] = [random_batch(features, 256, 50, seed) for seed in range(4)]
    times = {n: [] for n in steps}
    for n in steps:
        cpu_seconds(steps[n], all_batches[n][:2])
    for _ in range(ROUNDS):
        for n in steps:
            times[n].append(cpu_seconds(steps[n], all_batches[n]))
    base = statistics.median(times[10**4])
    return [
        {"rows": n, "ms_per_step": 1e3 * statistics.median(t), "ratio": statistics.median(t) / base}
        for n, t in times.items()
    ]


def worker() -> None:
    """Train for some seconds and print samples per second of wall-clock time."""
    features = schema()
    step = our_step(build_model(Grade(2, 2, 8, 50), SuanOptions(), features, base_rate=0.3, seed=0))
    batches = [random_batch(features, 256, 50, seed) for seed in range(4)]
    cpu_seconds(step, batches)
    print("ready", flush=True)
    sys.stdin.readline()
    begin, n_steps = time.perf_counter(), 0
    while time.perf_counter() - begin < 8:
        step(batches[n_steps % 4])
        n_steps += 1
    print(256 * n_steps / (time.perf_counter() - begin), flush=True)


def processes(count: int) -> float:
    """Samples per second of several workers together."""
    command = [sys.executable, __file__, "--worker"]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for each in workers:
        each.stdout.readline()
    for each in workers:
        each.stdin.write("go\n")
        each.stdin.flush()
    return sum(float(each.communicate()[0]) for each in workers)


def two_cores() -> dict[str, float]:
    rounds = [(processes(1), processes(2)) for _ in range(3)]
    one, two = (statistics.median(each) for each in zip(*rounds, strict=True))
    return {"one_process": one, "two_processes": two, "ratio": two / one}


def main() -> None:
    prepare_process()
    torch.set_flush_denormal(True)
    if "--worker" in sys.argv:
        worker()
        return
    result = {
        "torch": torch.__version__,
        "against_plain": [against_plain(50, 256), against_plain(200, 64)],
        "utilisation": [
            utilisation(Grade(2, 2, 8, 50), 256),
            utilisation(Grade(2, 2, 8, 200), 64),
        ],
    }
    result["two_cores"] = two_cores()
    result["packed"] = [packed(32, 8), packed(100, 8), packed(200, 8), packed(200, 32, n_passes=2)]
    if "--quick" not in sys.argv:
        result["utilisation"] += [
            utilisation(Grade(4, 4, 28, 50), 128),
            utilisation(Grade(4, 4, 52, 50), 64),
        ]
        result["embedding_rows"] = table_sizes()
    print(json.dumps(result, indent=2))
    path = Path(__file__).parent / "results" / "train_step.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
