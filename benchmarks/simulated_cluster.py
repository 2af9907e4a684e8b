"""Ten thousand cells on a simulated cluster: what plan, packing, order and shared prefixes change.

    .venv/bin/python benchmarks/simulated_cluster.py [--quick] [--gpus 64] [--times-ten]

A discrete-event simulation. The cells, their estimated costs, jobs and arrays come from the functions that `scaling
plan` and `scaling submit` call; the cluster and the metrics are drawn at random from the distributions below, the same
draws for all ways to submit. Compared are the time until a law fitted to the finished runs is first identified
(status `converged`), the time until all cells are done, and the GPU-hours used, start-up and lost work included.

The last rows are ways that `scaling submit` does not have. Writes results/simulated_cluster.json. Takes about five
minutes on one core; `--quick` takes two seeds, `--times-ten` simulates 100,000 cells. `--gpus` and `--wait` (seconds) set
another number of places and another median wait; these runs are printed only.
"""

import argparse
import bisect
import datetime as dt
import heapq
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.fit import fit_law
from analysis.laws import Additive
from scaling.atomic_files import write_json
from scaling.records import RunStore
from scaling.study import data_facts, load_study
from sweeps.dispatch.sbatch_resources import (
    QUEUE_SECONDS,
    JobArray,
    Unit,
    plan_arrays,
    throttle_shares,
)
from sweeps.planning import Plan, make_plan

RESULTS = Path(__file__).parent / "results"
# 10 grades x 10 data sizes x 5 rates x 20 seeds
STUDY = """\
[study]
name = "simulated"
[data]
path = "{folder}/never-made"
[data.generate]
n_train = 67_108_864
n_test = 100_000
n_items = 100_000
[grid]
grade = ["SUAN-0", "SUAN-1", "SUAN-2", "SUAN-3", "SUAN-4", "SUAN-5", "SUAN-6", "SUAN-7", "SUAN-8", "SUAN-9"]
n_samples = {sizes}
"train.rate_multiple" = {rates}
n_seeds = {seeds}
[train]
packing = "request"
share_prefix = {share}
[slurm]
gpus = 1
max_parallel = {gpus}
"""
RATES = [0.5, 0.7, 1.0, 1.4, 2.0]
SIZES = [131_072 * 2**k for k in range(10)]
# the fit of docs/studies/three-orders.md, and the standard deviation of a run there
LAW = {"E": 0.388, "A": 5.99, "B": 1.41, "alpha": 0.762, "beta": 0.279}
NOISE = 3.1e-3
# share of a run's variance that the sizes of one shared training have in common
COMMON = 0.5
FIRST_LOOK, LOOK_FACTOR = 12, 1.5
ATTEMPTS = 8  # draws of a job that are made at once


@dataclass(frozen=True)
class Cluster:
    """The distributions.

    Attributes:
        gpus: places of the sweep; one job uses one at a time.
        gpus_per_node: a node that fails ends the jobs of all its places.
        wait_median: seconds in the queue of a job that asks for one GPU for an hour; log-normal.
        wait_sigma: of its logarithm.
        wait_most: seconds that no job waits longer than.
        wait_growth: the wait is in proportion to the requested GPU-hours to this power.
        waits_together: all jobs wait from the submission on; else a job starts to wait when a place is free, as behind a
            throttle or a fair share.
        preemptions: of a job, per hour; exponential. What was done since the last checkpoint is lost.
        node_failures: of a node, per hour; exponential. The same is lost.
        start_seconds: from the start of a job until it trains.
        checkpoint_seconds: between checkpoints; infinite: a cell that is killed starts anew.
        grade_sigma: of the logarithm of a grade's true time over its guess; 0.35 is a factor of 2 in 95 % of the grades.
        cell_sigma: the same of each cell beside its grade.
    """

    gpus: int = 64
    gpus_per_node: int = 8
    wait_median: float = 600.0
    wait_sigma: float = 1.2
    wait_most: float = 86400.0
    wait_growth: float = 0.3
    waits_together: bool = False
    preemptions: float = 0.05
    node_failures: float = 1 / 1000
    start_seconds: float = 30.0
    checkpoint_seconds: float = 60.0
    grade_sigma: float = 0.35
    cell_sigma: float = 0.1


@dataclass(frozen=True)
class Way:
    """A way to submit the cells.

    Attributes:
        packed: short cells share a job, as `scaling submit` packs them.
        order: of the jobs: as in the grid, cheapest first, or the cheapest of one seed after the other.
        shared: one training serves all data sizes (`share_prefix`).
        arrays: each array has its own share of the places, in proportion to its work; else all jobs are one list.
        share_wait: seconds in the queue that count as work of each job when the places are shared out.
        own_limits: each job asks for ten times its own estimate; else for ten times the longest one of its array.
        job_seconds: jobs that follow each other are joined up to this estimate.
        checkpoints: whether a killed cell goes on from a checkpoint.
    """

    packed: bool = True
    order: Literal["grid", "cheapest", "seed"] = "cheapest"
    shared: bool = False
    arrays: bool = False
    share_wait: float = QUEUE_SECONDS
    own_limits: bool = False
    job_seconds: float = 0.0
    checkpoints: bool = True


WAYS = {
    "one job per cell, no checkpoints": Way(packed=False, order="grid", checkpoints=False),
    "one job per cell": Way(packed=False, order="grid"),
    "+ packing": Way(order="grid"),
    "+ cheapest first": Way(),
    "+ shared prefixes": Way(shared=True),
    "as `scaling submit` does": Way(arrays=True),
    "... the wait does not count in the shares": Way(arrays=True, share_wait=0.0),
    "cheapest first, a limit for each job": Way(own_limits=True),
    "... and jobs of an hour": Way(own_limits=True, job_seconds=3600.0),
    "shared prefixes, seed by seed": Way(shared=True, order="seed"),
}
TOGETHER = ("one job per cell", "+ cheapest first", "as `scaling submit` does")


@dataclass(frozen=True)
class Job:
    """The numbers of its cells in the order of their training, its estimate and its time limit in seconds."""

    cells: tuple[int, ...]
    seconds: float
    limit: float


@dataclass(frozen=True)
class Pool:
    """Jobs in their order, and how many of them run at the same time."""

    jobs: tuple[Job, ...]
    places: int


@dataclass
class Outcome:
    """What a sweep took: the end of each cell and sums over all jobs, in seconds."""

    ends: npt.NDArray[np.float64]
    waited: float = 0.0
    used: float = 0.0
    lost: float = 0.0
    n_stops: int = 0


class Draws:
    """The chances of one seed; a job has those of its first cell, so that all ways meet the same."""

    def __init__(self, seed: int, plan: Plan, cluster: Cluster) -> None:
        rng = np.random.default_rng([seed, 1])
        n_cells = len(plan.cells)
        self.seed = seed
        grades = sorted({cell.config.grade_name for cell in plan.cells})
        of_grade = dict(zip(grades, rng.normal(0, cluster.grade_sigma, len(grades)), strict=True))
        errors = rng.normal(0, cluster.cell_sigma, n_cells)
        errors += [of_grade[cell.config.grade_name] for cell in plan.cells]
        self.factors = np.exp(errors)
        self._waits = rng.normal(0, 1, (n_cells, ATTEMPTS))
        self._preemptions = rng.exponential(1, (n_cells, ATTEMPTS))
        self.noise = rng.normal(0, 1, n_cells)
        self._gap = 3600 / cluster.node_failures
        self._failures: dict[int, tuple[np.random.Generator, list[float]]] = {}

    def wait(self, job: "Job", attempt: int) -> float:
        """A standard normal number for the wait before an attempt."""
        if attempt < ATTEMPTS:
            return float(self._waits[job.cells[0], attempt])
        return float(np.random.default_rng([self.seed, 4, job.cells[0], attempt]).normal())

    def preemption(self, job: "Job", attempt: int) -> float:
        """The time until an attempt is preempted, as a multiple of the mean."""
        if attempt < ATTEMPTS:
            return float(self._preemptions[job.cells[0], attempt])
        return float(np.random.default_rng([self.seed, 5, job.cells[0], attempt]).exponential())

    def next_failure(self, node: int, after: float) -> float:
        """The time of the node's first failure later than `after`."""
        if node not in self._failures:
            self._failures[node] = (np.random.default_rng([self.seed, 2, node]), [0.0])
        rng, times = self._failures[node]
        while times[-1] <= after:
            times.append(times[-1] + rng.exponential(self._gap))
        return times[bisect.bisect_right(times, after)]


def make(share: bool, gpus: int, n_seeds: int, folder: Path) -> Plan:
    """The plan of the study, as `scaling plan` makes it before any cell is done."""
    path = folder / "study.toml"
    values = {"sizes": SIZES, "rates": RATES, "seeds": n_seeds, "share": str(share).lower()}
    document = STUDY.format(folder=folder, gpus=gpus, **values)
    path.write_text(document)
    study = load_study(path)
    return make_plan(study, data_facts(study.data), RunStore(folder / "runs"))


def arrays_of(plan: Plan, packed: bool) -> list[JobArray]:
    """The arrays that `scaling submit` would queue; unpacked, each unit is a job."""
    slurm = replace(plan.study.slurm, cells_per_job=None if packed else 1)
    units = [
        Unit(
            signatures=tuple(cell.config.signature for cell in unit),
            grade=unit[0].config.grade_name,
            seconds=sum(cell.seconds for cell in unit),
            memory_gib=max(cell.memory_gib for cell in unit),
            source=unit[0].source,
        )
        for unit in plan.units(plan.cells)
    ]
    return plan_arrays(slurm, units, plan.start_seconds)


def pools_of(plan: Plan, way: Way) -> tuple[list[Pool], int]:
    """The jobs of a way to submit, and the number of its arrays."""
    number = {cell.config.signature: k for k, cell in enumerate(plan.cells)}
    arrays = arrays_of(plan, way.packed)
    jobs = [
        [
            Job(
                tuple(number[name] for name in job.signatures),
                job.seconds,
                60.0 * array.resources.minutes,
            )
            for job in array.jobs
        ]
        for array in arrays
    ]
    gpus = plan.study.slurm.max_parallel
    if way.arrays:
        more = way.share_wait - QUEUE_SECONDS  # the function itself counts so much
        work = [(a.seconds + more * len(a.jobs), len(a.jobs)) for a in arrays]
        shares = throttle_shares(gpus, work)
        pools = [Pool(tuple(own), share) for own, share in zip(jobs, shares, strict=True)]
        return pools, len(arrays)
    every = [job for own in jobs for job in own]
    every.sort(key=lambda job: _rank(plan, job, way.order))
    every = _joined(every, way.job_seconds)
    if way.own_limits:
        every = [replace(job, limit=max(900.0, 10 * job.seconds)) for job in every]
    return [Pool(tuple(every), gpus)], len(arrays)


def _rank(plan: Plan, job: Job, order: str) -> tuple[float, ...]:
    first = min(job.cells)
    if order == "grid":
        return (first,)
    cost = plan.cells[job.cells[0]].seconds
    return (plan.cells[first].config.seed, cost) if order == "seed" else (cost,)


def _joined(jobs: Sequence[Job], seconds: float) -> list[Job]:
    """Jobs of up to `seconds`, made of jobs that follow each other; a long job stays alone."""
    joined: list[Job] = []
    for job in jobs:
        if joined and joined[-1].seconds + job.seconds <= seconds:
            last = joined.pop()
            job = Job(last.cells + job.cells, last.seconds + job.seconds, job.limit)
        joined.append(job)
    return joined


def simulate(
    pools: Sequence[Pool], seconds: npt.NDArray[np.float64], draws: Draws, cluster: Cluster
) -> Outcome:
    """Run all jobs.

    Args:
        pools: the jobs.
        seconds: true time of each cell, [cells].
        draws: the chances.
        cluster: the distributions.
    """
    outcome = Outcome(np.full(len(seconds), np.nan))
    first_place = 0
    for pool in pools:
        places = [(0.0, first_place + k) for k in range(pool.places)]
        first_place += pool.places
        for job, ready in _in_turn(pool, places, draws, cluster):
            free, place = places[0]
            end = _run(job, max(free, ready), place, ready > 0, seconds, draws, cluster, outcome)
            heapq.heapreplace(places, (end, place))
    return outcome


def _in_turn(
    pool: Pool, places: list[tuple[float, int]], draws: Draws, cluster: Cluster
) -> Iterator[tuple[Job, float]]:
    """The jobs in the order in which they start, with the end of their first wait (0: it is still to come)."""
    if not cluster.waits_together:
        yield from ((job, 0.0) for job in pool.jobs)
        return
    coming = [(_wait(job, 0, draws, cluster), k) for k, job in enumerate(pool.jobs)]
    heapq.heapify(coming)
    ready: list[tuple[int, float]] = []
    while coming or ready:
        while coming and (coming[0][0] <= places[0][0] or not ready):
            at, k = heapq.heappop(coming)
            heapq.heappush(ready, (k, at))
        k, at = heapq.heappop(ready)
        yield pool.jobs[k], at


def _wait(job: Job, attempt: int, draws: Draws, cluster: Cluster) -> float:
    size = (job.limit / 3600) ** cluster.wait_growth
    wait = cluster.wait_median * size * np.exp(cluster.wait_sigma * draws.wait(job, attempt))
    return float(min(wait, cluster.wait_most))


def _run(
    job: Job,
    now: float,
    place: int,
    has_waited: bool,
    seconds: npt.NDArray[np.float64],
    draws: Draws,
    cluster: Cluster,
    outcome: Outcome,
) -> float:
    """Run a job until its last cell is done, with all its returns to the queue; gives the time of its end."""
    cell_ends = np.cumsum(seconds[list(job.cells)]).tolist()
    total, done, n_done, attempt = cell_ends[-1], 0.0, 0, 0
    while True:
        wait = 0.0 if has_waited and attempt == 0 else _wait(job, attempt, draws, cluster)
        begin = now + wait
        trains = begin + cluster.start_seconds
        preempted = begin + 3600 / cluster.preemptions * draws.preemption(job, attempt)
        failed = draws.next_failure(place // cluster.gpus_per_node, begin)
        limit = begin + job.limit
        now = min(trains + total - done, preempted, failed, limit)
        reached = done + max(0.0, now - trains)
        ended = n_done
        # a job's last cell ends at `now`, which rounding may put just before it
        while ended < len(job.cells) and cell_ends[ended] <= reached + 1e-6:
            outcome.ends[job.cells[ended]] = trains + cell_ends[ended] - done
            ended += 1
        outcome.waited += wait
        outcome.used += now - begin
        if ended == len(job.cells):
            return float(now)
        kept = max(done, cell_ends[ended - 1] if ended else 0.0)
        if now == limit:  # it saves its state at SLURM's warning
            kept = max(kept, reached)
        elif np.isfinite(cluster.checkpoint_seconds):
            step = cluster.checkpoint_seconds
            kept = max(kept, done + (reached - done) // step * step)
        outcome.lost += reached - kept
        outcome.n_stops += 1
        done, n_done, attempt = kept, ended, attempt + 1


def runs_of(plan: Plan, draws: Draws, shared: bool) -> pd.DataFrame:
    """The runs at the recipe's own rate, with metrics from the law; their index is the number of the cell."""
    n_seeds = 1 + max(cell.config.seed for cell in plan.cells)
    rows = [
        (k, cell.size.n_params, cell.config.n_samples, cell.config.seed, cell.config.trajectory)
        for k, cell in enumerate(plan.cells)
        if RATES[k // n_seeds % len(RATES)] == 1.0  # seeds vary fastest in the grid, then rates
    ]
    table = pd.DataFrame(rows, columns=["cell", "n_params", "n_samples", "seed", "trajectory"])
    noise = draws.noise[table["cell"]]
    if shared:
        codes, names = pd.factorize(table["trajectory"])
        common = np.random.default_rng([draws.seed, 3]).normal(0, 1, len(names))[codes]
        noise = np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * noise
    else:
        table = table.drop(columns="trajectory")
    truth = Additive()(LAW, table["n_params"].to_numpy(float), table["n_samples"].to_numpy(float))
    return table.assign(soft_logloss=truth + NOISE * noise).set_index("cell")


def first_fit(runs: pd.DataFrame, ends: npt.NDArray[np.float64]) -> tuple[float, int]:
    """Time and number of runs of the first look at which the law is identified; infinite if there is none."""
    order = np.argsort(ends[runs.index], kind="stable")
    count = float(FIRST_LOOK)
    while True:
        n_rows = min(len(order), round(count))
        table = runs.iloc[order[:n_rows]]
        if fit_law(Additive(), table, y="soft_logloss").status == "converged":
            return float(ends[table.index].max()), n_rows
        if n_rows == len(order):
            return float("inf"), n_rows
        count *= LOOK_FACTOR


def measure(
    plans: dict[bool, Plan], ways: Sequence[str], seeds: Sequence[int], cluster: Cluster
) -> dict[str, dict[str, Any]]:
    """Medians and ranges over the seeds of all that is reported, by way to submit."""
    results = {}
    chances = {seed: Draws(seed, plans[False], cluster) for seed in seeds}
    runs = {
        (seed, share): runs_of(plans[share], chances[seed], share)
        for seed in seeds
        for share in plans
    }
    for name in ways:
        way, plan = WAYS[name], plans[WAYS[name].shared]
        pools, n_arrays = pools_of(plan, way)
        own = cluster
        if not way.checkpoints:
            own = replace(cluster, checkpoint_seconds=float("inf"))
        guess = np.array([cell.seconds for cell in plan.cells])
        samples = []
        for seed in seeds:
            draws = chances[seed]
            outcome = simulate(pools, guess * draws.factors, draws, own)
            found, n_rows = first_fit(runs[seed, way.shared], outcome.ends)
            samples.append(
                {
                    "first_fit_hours": found / 3600,
                    "runs_in_it": n_rows,
                    "makespan_hours": float(outcome.ends.max()) / 3600,
                    "gpu_hours": outcome.used / 3600,
                    "lost_gpu_hours": outcome.lost / 3600,
                    "waiting_share": outcome.waited / (outcome.waited + outcome.used),
                    "stops": outcome.n_stops,
                }
            )
        numbers = {key: np.array([one[key] for one in samples]) for key in samples[0]}
        results[name] = {
            "jobs": sum(len(pool.jobs) for pool in pools),
            "arrays": n_arrays,
            **{
                key: [float(f(values)) for f in (np.median, np.min, np.max)]
                for key, values in numbers.items()
            },
        }
        print(row(name, results[name]), flush=True)
    return results


HEADER = (
    "| way to submit | jobs | first identified fit, h | all cells done, h | GPU-hours | of these lost | waiting |\n"
    "|---|---|---|---|---|---|---|"
)


def row(name: str, one: dict[str, Any]) -> str:
    """A row of the table: medians, and ranges over the seeds in brackets."""
    first, makespan, hours = (
        f"{middle:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}]"
        for key, digits in (("first_fit_hours", 2), ("makespan_hours", 1), ("gpu_hours", 0))
        for middle, low, high in [one[key]]
    )
    lost, waiting = one["lost_gpu_hours"][0], one["waiting_share"][0]
    return f"| {name} | {one['jobs']:,} | {first} | {makespan} | {hours} | {lost:.1f} | {waiting:.0%} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds; writes nothing")
    parser.add_argument("--times-ten", action="store_true", help="100,000 cells, two seeds")
    parser.add_argument("--gpus", type=int, default=Cluster.gpus)
    parser.add_argument("--wait", type=float, default=Cluster.wait_median)
    options = parser.parse_args(arguments)
    seeds = range(2 if options.quick or options.times_ten else 20)
    cluster = Cluster(gpus=options.gpus, wait_median=options.wait)
    begin = time.perf_counter()
    plans = {}
    with tempfile.TemporaryDirectory() as folder:
        for share in (False, True):
            start = time.perf_counter()
            plans[share] = make(share, cluster.gpus, 200 if options.times_ten else 20, Path(folder))
            took = time.perf_counter() - start
            print(f"{len(plans[share].cells):,} cells planned in {took:.1f} s")
    tables = {}
    for how, ways in {"one after another": tuple(WAYS), "together": TOGETHER}.items():
        print(f"\n{cluster.gpus} GPUs, jobs wait {how}, {len(seeds)} seeds\n\n{HEADER}")
        own = replace(cluster, waits_together=how == "together")
        tables[f"jobs wait {how}"] = measure(plans, ways, seeds, own)
    print(f"\n{time.perf_counter() - begin:.0f} s")
    if not options.quick and cluster == Cluster():
        size = "_x10" if options.times_ten else ""
        document = {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "cells": len(plans[False].cells),
            "seeds": len(seeds),
            "cluster": asdict(cluster),
            "median_min_max": tables,
        }
        write_json(RESULTS / f"simulated_cluster{size}.json", document)


if __name__ == "__main__":
    main()
