"""The SUAN paper's study at its full size, on paper: what it costs, what it needs, how much memory its tables take.

    .venv/bin/python benchmarks/full_study.py

Nothing is trained. Parameters, FLOPs and activations are from `models.accounting`, batch sizes from the recipe, rows of
shared trainings from `scaling.study`, the loader's speed from results/loader.json; what is assumed is in `Hardware`.
Prints the tables of docs/scale.md and writes results/full_study.json.
"""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.accounting import ModelSize, model_size
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.atomic_files import write_json
from scaling.store import Feature, Schema
from scaling.study import RunConfig, recipe_for, trained_samples

RESULTS = Path(__file__).parent / "results"
NAMES = [f"SUAN-{k}" for k in range(5, 15)]  # 4.1e5 to 8.7e8 parameters
SIZES = [round(10 ** (7 + k / 2)) for k in range(7)]  # 10^7 to 10^10 samples
N_SEEDS = 3
N_GPUS = (8, 64, 512)
ROWS = (10**6, 10**7, 10**8, 10**9)
RANKS = (1, 2, 4, 8, 16, 32, 64)
# the features of the paper's public data set, Ele.me
BEHAVIOUR = tuple(Feature(name, name) for name in ("shop", "item", "category", "aoi", "hour"))
PROFILE = tuple(
    Feature(name, name) for name in ("user", "gender", "city", "vip", "clicks", "orders")
)
SCHEMA = Schema(BEHAVIOUR, BEHAVIOUR, profile=PROFILE)
GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """Assumptions, none of them measured here.

    Attributes:
        peak: FLOP per second of a GPU, dense bf16 (H100 or H200).
        mfu: share of the peak that training reaches.
        step_seconds: what a step takes beside its arithmetic (launches), as in `sweeps.planning.guessed_cost`.
        node: GPUs of a node.
        inside: bytes per second and GPU of a sum over the GPUs of a node.
        between: the same over several nodes.
        memory_gib: of a GPU: 80 GB and 141 GB.
    """

    peak: float = 9.89e14
    mfu: float = 0.3
    step_seconds: float = 0.01
    node: int = 8
    inside: float = 3e11
    between: float = 4e10
    memory_gib: tuple[float, float] = (80e9 / GIB, 141e9 / GIB)


HARDWARE = Hardware()


def sizes_of(name: str) -> ModelSize:
    """Parameters and FLOPs; feature tables are counted apart."""
    return model_size(GRADES[name], SuanOptions(), SCHEMA)


def cell(name: str, n_samples: int) -> RunConfig:
    """A cell of the study with the recipe's batch; nothing else matters here."""
    grade = GRADES[name]
    rule = recipe_for(n_samples, grade.d * len(BEHAVIOUR))
    return RunConfig(
        grade_name=name, grade=grade, model=SuanOptions(), n_samples=n_samples, seed=0, batch_size=rule.batch_size,
        learning_rate=rule.learning_rate, embedding_rate=rule.embedding_rate, schedule="constant",
        data_order="independent", data_fingerprint="", warmup_steps=100,
    )  # fmt: skip


def step_seconds(name: str, batch: int, ranks: int = 1, *, sums: bool = True) -> float:
    """Seconds of a step of `batch` impressions on several GPUs, with the sum of the dense gradients.

    A ring sum moves 2 (r - 1) / r of 4 bytes per parameter in and out of each GPU. A GPU works on whole impressions.
    """
    size, hardware = sizes_of(name), HARDWARE
    flops = size.training_flops(int(np.ceil(batch / ranks)))
    seconds = hardware.step_seconds + flops / (hardware.mfu * hardware.peak)
    if ranks > 1 and sums:
        rate = hardware.inside if ranks <= hardware.node else hardware.between
        seconds += 2 * (ranks - 1) / ranks * 4 * size.n_params / rate
    return seconds


def gpu_hours(name: str, n_samples: float) -> float:
    """GPU-hours of one training on one GPU, evaluation left out."""
    batch = cell(name, SIZES[-1]).batch_size
    return n_samples / batch * step_seconds(name, batch) / 3600


def shared_samples(name: str) -> int:
    """Impressions of one training that serves all data sizes, at a constant rate."""
    return trained_samples([cell(name, n) for n in SIZES])


def grade_rows() -> Iterator[dict[str, float | str]]:
    """What each grade costs."""
    for name in NAMES:
        size = sizes_of(name)
        batch = cell(name, SIZES[-1]).batch_size
        rate = batch / step_seconds(name, batch)
        yield {
            "grade": name,
            "L": GRADES[name].max_len,
            "params": size.n_params,
            "flops_per_sample": size.training_flops(1),
            "samples_per_second": rate,
            "gpu_hours_largest": gpu_hours(name, SIZES[-1]),
            "gpu_hours_all": N_SEEDS * sum(gpu_hours(name, n) for n in SIZES),
            "gpu_hours_shared": N_SEEDS * gpu_hours(name, shared_samples(name)),
            "loader_cores": rate / loader_speed(GRADES[name].max_len),
            "activations_gib": batch * size.activation_bytes / 2 / GIB,
            "checkpoint_gib": 12 * size.n_params / GIB,
        }


def loader_speed(length: int) -> float:
    """Impressions per second of one core at this length, interpolated between the measured ones in logarithms.

    Beyond the longest measured length, the speed is taken to fall in proportion to the length.
    """
    measured = json.loads((RESULTS / "loader.json").read_text())["throughput"]
    lengths = [one["L"] for one in measured]
    speeds = [one["loader_samples_per_second"] for one in measured]
    found = np.exp(np.interp(np.log(length), np.log(lengths), np.log(speeds)))
    return float(found * min(1.0, lengths[-1] / length))


def shortest_days(n_gpus: int, batch: int, shared: bool) -> float:
    """Days of the whole study if each training may take several GPUs, as few as its share of the time allows.

    The gaps that trainings of different lengths leave on the GPUs are not counted.
    """
    trainings = [
        (name, n)
        for name in NAMES
        for n in ([shared_samples(name)] if shared else SIZES)
        for _ in range(N_SEEDS)
    ]
    ranks = [2**k for k in range(10) if 2**k <= min(n_gpus, batch)]
    options = [
        [(r, n / batch * step_seconds(name, batch, r) / 86400) for r in ranks]
        for name, n in trainings
    ]

    def fits(days: float) -> bool:
        work = 0.0
        for ways in options:
            found = next((r * took for r, took in ways if took <= days), None)
            if found is None:
                return False
            work += found
        return work <= n_gpus * days

    low, high = 0.01, 1e6
    while high > 1.001 * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def table_gib(rows: int, ranks: int, name: str = "SUAN-9") -> dict[str, float]:
    """GiB of each GPU if the rows of the tables are divided among the ranks and the dense model is on each.

    Values and two moments of its rows; gradient rows of its share of the batch and those that it receives for its own rows
    (all different, 8 bytes for each row's number); the dense model's values, gradients and moments; activations of its share,
    half of them for bf16.
    """
    grade, size = GRADES[name], sizes_of(name)
    batch = cell(name, SIZES[-1]).batch_size
    share = int(np.ceil(batch / ranks))
    read = grade.max_len * len(BEHAVIOUR) + len(BEHAVIOUR) + len(PROFILE)
    gradient_rows = min(rows, 2 * share * read if ranks > 1 else share * read)
    parts = {
        "table": 12 * rows * grade.d / ranks,
        "gradient_rows": gradient_rows * (4 * grade.d + 8),
        "dense": 16 * size.n_params,
        "activations": share * size.activation_bytes / 2,
    }
    return {part: n_bytes / GIB for part, n_bytes in parts.items()}


def print_grades() -> list[dict[str, float | str]]:
    rows = list(grade_rows())
    print(
        "\n| grade | L | parameters | FLOPs per impression | impressions/s of a GPU | GPU-hours at 10^10 | all sizes, all seeds | "
        "with shared prefixes | loader cores per GPU | activations, GiB | checkpoint, GiB |\n"
        + "|---" * 11
        + "|"
    )
    for one in rows:
        print(
            "| {grade} | {L:,} | {params:.2g} | {flops_per_sample:.2g} | {samples_per_second:,.0f} | {gpu_hours_largest:,.0f} | "
            "{gpu_hours_all:,.0f} | {gpu_hours_shared:,.0f} | {loader_cores:.2g} | {activations_gib:,.2g} | "
            "{checkpoint_gib:.2g} |".format_map(one)
        )
    return rows


def print_study() -> dict[str, object]:
    n_cells = len(NAMES) * len(SIZES) * N_SEEDS
    flops = N_SEEDS * sum(sizes_of(name).training_flops(n) for name in NAMES for n in SIZES)
    longest = gpu_hours(NAMES[-1], SIZES[-1]) / 24
    print(
        f"\n{n_cells} cells, {flops:.3g} FLOPs; the longest training takes {longest:,.0f} days on one GPU\n"
    )
    print(
        "| | GPU-hours on one GPU each | " + " | ".join(f"days on {n} GPUs" for n in N_GPUS) + " |"
    )
    print("|---" * (2 + len(N_GPUS)) + "|")
    document: dict[str, object] = {"cells": n_cells, "flops": flops, "longest_days": longest}
    for text, shared, batch in (
        ("each cell alone, batch 256", False, 256),
        ("each cell alone, batch 4,096", False, 4096),
        ("shared prefixes, batch 256", True, 256),
        ("shared prefixes, batch 4,096", True, 4096),
    ):
        hours = N_SEEDS * sum(
            n / batch * step_seconds(name, batch) / 3600
            for name in NAMES
            for n in ([shared_samples(name)] if shared else SIZES)
        )
        days = {n: shortest_days(n, batch, shared) for n in N_GPUS}
        print(f"| {text} | {hours:,.0f} | " + " | ".join(f"{days[n]:,.0f}" for n in N_GPUS) + " |")
        document[text] = {"gpu_hours": hours, "days": days}
    most = sizes_of(NAMES[-1]).training_flops(SIZES[-1])
    for part in (10, 100, 1000):
        cells = [
            (name, n)
            for name in NAMES
            for n in SIZES
            if sizes_of(name).training_flops(n) * part <= most
        ]
        hours = N_SEEDS * sum(gpu_hours(name, n) for name, n in cells)
        print(
            f"\nwithout cells over 1/{part} of the largest one's FLOPs: {N_SEEDS * len(cells)} cells, {hours:,.0f} GPU-hours"
        )
        document[f"up to 1/{part}"] = {"cells": N_SEEDS * len(cells), "gpu_hours": hours}
    return document


def print_storage() -> dict[str, float]:
    rows = 10**8
    models = {name: sizes_of(name).n_params + rows * GRADES[name].d for name in NAMES}
    measured = json.loads((RESULTS / "loader.json").read_text())["throughput"]
    store = [SIZES[-1] * one["bytes_per_impression"] / 1e12 for one in measured]
    document = {
        "models_tb": 4 * N_SEEDS * len(SIZES) * sum(models.values()) / 1e12,
        "largest_checkpoint_tb": 12 * models[NAMES[-1]] / 1e12,
        "store_tb_short": store[0],
        "store_tb_long": store[-1],
    }
    print(
        f"\nwith tables of {rows:,} rows: all models {document['models_tb']:.1f} TB, one checkpoint of {NAMES[-1]} "
        f"{document['largest_checkpoint_tb']:.2f} TB (two are kept); store of 10^10 impressions {store[0]:.1f} TB "
        f"(L = {measured[0]['L']}) to {store[-1]:.1f} TB (L = {measured[-1]['L']})"
    )
    return document


def print_largest() -> list[dict[str, float]]:
    name = NAMES[-1]
    rows = []
    print(f"\n{name} at 10^10 impressions on several GPUs:\n")
    print(
        "| batch | GPUs | impressions of a GPU | step, s | of this the sum of gradients, s | days | GPU-hours against one GPU |\n"
        + "|---" * 7
        + "|"
    )
    for batch in (256, 4096):
        alone = SIZES[-1] / 256 * step_seconds(name, 256)
        for ranks in (1, 8, 64, 256, 512):
            step = step_seconds(name, batch, ranks)
            seconds = SIZES[-1] / batch * step
            one = {
                "batch": batch,
                "ranks": ranks,
                "share": batch / ranks,
                "step": step,
                "sum": step - step_seconds(name, batch, ranks, sums=False),
                "days": seconds / 86400,
                "more": seconds * ranks / alone,
            }
            rows.append(one)
            print(
                "| {batch:,} | {ranks} | {share:g} | {step:.2f} | {sum:.2f} | {days:,.1f} | {more:.2f} |".format_map(
                    one
                )
            )
    return rows


def print_memory() -> dict[str, dict[str, float]]:
    small, large = HARDWARE.memory_gib
    print(
        f"\nGiB of each GPU, SUAN-9; * more than 80 GB ({small:.0f} GiB), ** more than 141 GB ({large:.0f} GiB):\n"
    )
    print(
        "| rows | "
        + " | ".join(f"{n} GPU{'s' if n > 1 else ''}" for n in RANKS)
        + " |\n"
        + "|---" * (1 + len(RANKS))
        + "|"
    )
    document: dict[str, dict[str, float]] = {}
    for rows in ROWS:
        totals = {n: sum(table_gib(rows, n).values()) for n in RANKS}
        marked = [
            f"{gib:,.1f}{' **' if gib > large else ' *' if gib > small else ''}"
            for gib in totals.values()
        ]
        print(f"| 10^{round(np.log10(rows))} | " + " | ".join(marked) + " |")
        document[str(rows)] = {str(n): gib for n, gib in totals.items()}
    parts = {part: round(gib, 2) for part, gib in table_gib(10**8, 8).items()}
    print(f"\nof these, at 10^8 rows on 8 GPUs: {parts}")
    return document


def main() -> None:
    document = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "assumed": asdict(HARDWARE),
        "grades": print_grades(),
        "study": print_study(),
        "storage": print_storage(),
        "largest": print_largest(),
        "memory_gib": print_memory(),
    }
    write_json(RESULTS / "full_study.json", document)


if __name__ == "__main__":
    main()
