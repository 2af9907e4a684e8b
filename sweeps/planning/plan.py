"""The plan: all cells of a study with their sizes, costs and states. Strictly read-only."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property, lru_cache
from types import MappingProxyType
from typing import Any

from models.kinds import former_options, size_of
from models.model_options import EncoderOptions, ModelOptions, settings_of_model
from scaling.errors import UserError
from scaling.records import RunState, RunStore
from scaling.study import (
    NO_TEACHER,
    DataFacts,
    Distillation,
    DistillConfig,
    RunConfig,
    StudyConfig,
    TrainConfig,
    group_runs,
    lease_key,
    teacher_flops,
    trained_samples,
)
from sweeps.planning.cell_standing import PlannedCell
from sweeps.planning.cost_estimate import (
    Estimate,
    Measurements,
    estimate,
    measurements,
    read_benchmarks,
)
from sweeps.planning.grid import grid_cells, rate_multiple
from sweeps.planning.job_state import QueuedJob
from sweeps.planning.run_history import former_runs, read_history
from sweeps.planning.several_ranks import check_memory, check_ranks, on_ranks, shares_table
from sweeps.planning.teacher_runs import runs_before

__all__ = ["Plan", "make_plan"]


# What CUDA takes of a GPU's memory for each process, about; an assumption, not measured.
_CONTEXT_GIB = 0.4


@dataclass(frozen=True)
class Plan:
    """All cells of a study, in the grid's order.

    Attributes:
        start_seconds: time from the start of a process until it trains.
        removed: signatures of runs that are no longer in the grid.
        removed_seconds: time of the attempts of each of them; an attempt that several runs share counts once.
        silence: the scheduler's error, if it could not be asked.
        damaged: what is wrong with records that cannot be used, also with those of runs that are not in the grid.
    """

    study: StudyConfig
    data: DataFacts
    cells: tuple[PlannedCell, ...]
    start_seconds: float
    removed: tuple[str, ...] = ()
    removed_seconds: Mapping[str, float] = field(default_factory=dict)
    silence: str = ""
    damaged: tuple[str, ...] = ()

    def with_standing(self, *standings: str) -> tuple[PlannedCell, ...]:
        """Return the cells with one of these standings."""
        return tuple(cell for cell in self.cells if cell.standing in standings)

    def gpu_seconds(self, cell: PlannedCell) -> float:
        """Return the estimated seconds of a job for this cell alone, times its GPUs, or its processes if it has none."""
        n_devices = self.study.n_devices(cell.config.grade_name)
        return (cell.seconds + self.start_seconds) * n_devices

    @property
    def seconds(self) -> float:
        """Estimated device-seconds of all cells that are not done, with one process per cell."""
        return sum(self.gpu_seconds(cell) for cell in self.cells if cell.state.state != "done")

    @property
    def n_trained(self) -> int:
        """Impressions that all cells together are trained on; cells that share a training count once."""
        configs = [cell.config for cell in self.cells]
        return sum(_n_trained(configs, self.study.train.share_prefix).values())

    @property
    def spent_seconds(self) -> float:
        """Device-seconds that all attempts so far have taken."""
        return sum(
            cell.spent_seconds * self.study.n_devices(cell.config.grade_name)
            for cell in self.cells
            if cell.spent_seconds
        )

    def state_now(self, cell: PlannedCell, runs: RunStore) -> RunState:
        """Read the current state of a cell from its files."""
        stale = self.study.run.stale_seconds
        return runs.state(cell.config.signature, cell.key, stale_seconds=stale)

    def units(self, cells: Sequence[PlannedCell]) -> list[tuple[PlannedCell, ...]]:
        """Group cells that one process trains together: single cells, or all cells of a trajectory."""
        groups: dict[str, list[PlannedCell]] = {}
        for cell in cells:
            groups.setdefault(cell.key, []).append(cell)
        return [tuple(group) for group in groups.values()]

    def axis_values(self, config: RunConfig) -> dict[str, Any]:
        """Return a cell's values on the study's further axes, e.g. `{"model.norm": "rms"}`.

        None for an option that the cell's kind of model lacks. `distill.teacher_samples` is the number of impressions
        that the teacher was trained on before.
        """
        if not self.study.grid.axes:
            return {}
        document = asdict(config)
        values = {f"model.{name}": value for name, value in settings_of_model(config.model).items()}
        values |= {f"train.{f.name}": document.get(f.name) for f in fields(TrainConfig)}
        if "train.rate_multiple" in self.study.grid.axes:
            values["train.rate_multiple"] = rate_multiple(self.study, self.data, config)
        values |= _teacher_values(config.distill, self._teacher_samples)
        return {axis: values.get(axis) for axis in self.study.grid.axes}

    @cached_property
    def _teacher_samples(self) -> dict[str, int]:
        before = runs_before(self.study, [cell.config for cell in self.cells])
        return {name: config.n_samples for name, config in before.items()}

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat document per cell, for tables and JSON."""
        known = self.data.fingerprint is not None
        return [
            {
                "signature": cell.config.signature if known else None,
                "grade": cell.config.grade_name,
                "n_samples": cell.config.n_samples,
                "seed": cell.config.seed,
                **self.axis_values(cell.config),
                "n_params": cell.size.n_params,
                "n_embedding_params": cell.size.n_embedding_params,
                "flops_per_sample": cell.size.flops_per_sample,
                "flops": cell.flops,
                "batch_size": cell.config.batch_size,
                "learning_rate": cell.config.learning_rate,
                "estimated_seconds": cell.seconds + self.start_seconds,
                "estimated_gpu_hours": self.gpu_seconds(cell) / 3600,
                "estimated_memory_gib": cell.memory_gib,
                "estimate": cell.source,
                "state": cell.standing,
                "why": cell.why,
            }
            for cell in self.cells
        ]


def _teacher_values(one: Distillation | None, n_samples_of: Mapping[str, int]) -> dict[str, Any]:
    """Return a cell's values on the axes of `[distill]`."""
    if one is None:
        names = (f"distill.{f.name}" for f in fields(DistillConfig))
        return {**dict.fromkeys(names), "distill.teacher": NO_TEACHER}
    return {
        "distill.teacher": one.teacher_name,
        "distill.weight": one.weight,
        "distill.temperature": one.temperature,
        "distill.share_embeddings": one.share_embeddings,
        "distill.teacher_init": one.teacher_init,
        "distill.teacher_samples": n_samples_of.get(one.teacher_init or ""),
        "distill.freeze_teacher": one.is_frozen,
    }


def make_plan(
    study: StudyConfig,
    data: DataFacts,
    runs: RunStore,
    jobs: Mapping[str, QueuedJob] = MappingProxyType({}),
) -> Plan:
    """Plan a study: its cells, their costs, and their states from the runs folder and `jobs`.

    Args:
        study: the study.
        data: facts of its store.
        runs: its runs folder.
        jobs: queued or running jobs, by the signature of the cell.

    Raises:
        UserError: the grid does not fit the data, a cell cannot use the devices that it would get, or a benchmark file is damaged.
    """
    history = read_history(runs)
    study = _with_recipe(study, history.records.values())
    configs = _with_former_sources(grid_cells(study, data), history.records.values())
    records = history.records if data.fingerprint else {}
    known = measurements(
        list(records.values()), read_benchmarks(runs.root.parent), data.fingerprint or ""
    )
    removed = history.without({config.signature for config in configs})
    former = former_runs(runs, removed)
    share = study.train.share_prefix
    n_trained = _n_trained(configs, share)
    # most cells differ from another one only in their seed
    own_size = lru_cache(maxsize=None)(lambda grade, model: size_of(grade, model, data.schema))
    costs_of = _costs(study, data, known)
    cells = []
    for config in configs:
        signature, key = config.signature, lease_key(config, share)
        damage = history.damage_of(config)
        state = RunState("missing")
        if signature in records:
            state = RunState("done")
        elif key in history.folders:
            state = runs.state(signature, key, stale_seconds=study.run.stale_seconds)
        attempts = history.attempts(key, signature) if state.state != "missing" else []
        failures = [] if state.state == "done" else [a.get("failure") for a in attempts]
        costs = costs_of(config, n_trained[signature])
        cells.append(
            PlannedCell(
                config=config,
                key=key,
                size=own_size(config.grade, config.model),
                state=state,
                seconds=costs.seconds,
                evaluation_seconds=costs.evaluation_seconds,
                n_trained=n_trained[signature],
                memory_gib=costs.memory_gib,
                source=costs.source,
                job=jobs.get(signature),
                failures=Counter(filter(None, failures)),
                spent_seconds=history.spend(attempts),
                metrics=records.get(signature, {}).get("metrics", {}),
                teacher_flops=_teacher_flops(config, data),
                n_beside=costs.n_beside,
                change=_change(config, former) if state.state == "missing" else "",
                damage=damage,
            )
        )
    spent = {name: history.spend(history.attempts(name, name)) for name in removed}
    return Plan(
        study,
        data,
        tuple(cells),
        known.start_seconds,
        removed,
        spent,
        damaged=tuple(history.damaged.values()),
    )


def _with_recipe(study: StudyConfig, records: Iterable[dict[str, Any]]) -> StudyConfig:
    """Return the study with the recipe of its finished runs, so that a sweep begun before recipe 2 is not trained anew."""
    of_recipe_1 = any(record["config"].get("embedding_rate") is None for record in records)
    if study.train.recipe is not None or not of_recipe_1:
        return study
    return replace(study, train=replace(study.train, recipe=1))


def _with_former_sources(
    configs: Sequence[RunConfig], records: Iterable[dict[str, Any]]
) -> Sequence[RunConfig]:
    """Return the cells with the digests of sources that finished runs have, so that these are not trained anew."""
    models = [record["config"]["model"] for record in records]
    known = {(model.get("kind"), model.get("source")) for model in models if model.get("source")}
    if not known:
        return configs

    @cache
    def as_known(options: ModelOptions) -> ModelOptions:
        if not isinstance(options, EncoderOptions) or (options.kind, options.source) in known:
            return options
        former = former_options(options)
        return former if (former.kind, former.source) in known else options

    return [replace(config, model=as_known(config.model)) for config in configs]


def _teacher_flops(config: RunConfig, data: DataFacts) -> int:
    if config.distill is None:
        return 0
    return teacher_flops(config.distill, config.n_samples, data.schema)


def _costs(
    study: StudyConfig, data: DataFacts, known: Measurements
) -> Callable[[RunConfig, int], Estimate]:
    """Return a function that estimates a cell with the impressions it is trained on, once for all its seeds."""
    found: dict[tuple[object, ...], Estimate] = {}
    memory = study.run.device_memory_gib

    def costs(config: RunConfig, n_trained: int) -> Estimate:
        alike = (
            *(config.grade_name, config.model, config.packing, config.distill),
            *(config.n_samples, config.batch_size, config.batch_schedule, n_trained),
        )
        if alike not in found:
            on_gpu = study.gpus(config.grade_name) > 0
            n_cells = study.slurm.of_grade(config.grade_name).cells_per_gpu
            alone = estimate(
                config, data, known, on_gpu=on_gpu, n_trained=n_trained, cells_per_gpu=n_cells
            )
            _check_shared_memory(config, data, n_cells, memory)
            n_ranks = study.n_ranks(config.grade_name)
            check_ranks(config, data.schema, n_ranks)
            check_memory(config, data.schema, n_ranks, memory)
            divides = shares_table(config, data.schema, n_ranks, memory)
            table = config.held_size(data.schema).table_bytes if divides else 0
            found[alike] = on_ranks(alone, n_ranks, table)
        return found[alike]

    return costs


def _check_shared_memory(
    config: RunConfig, data: DataFacts, n_cells: int, device_memory_gib: float | None
) -> None:
    """Refuse more cells than the memory of a GPU surely holds, as far as it is known.

    Raises:
        UserError: their contexts, parameters, gradients and moments take more; activations come on top.
    """
    if n_cells == 1 or device_memory_gib is None:
        return
    each = _CONTEXT_GIB + config.held_size(data.schema).bytes_on(1) / 2**30
    if n_cells * each > device_memory_gib:
        fitting = int(device_memory_gib / each)
        advice = (
            f"set cells_per_gpu to {fitting} or fewer in [slurm.grades.{config.grade_name}]"
            if fitting
            else "raise device_memory_gib, if the GPU has more"
        )
        raise UserError(
            f"slurm: {config.label} needs {each:.3g} GiB of a GPU for its context, parameters, gradients and moments, so "
            f"run.device_memory_gib = {device_memory_gib:g} does not hold {n_cells}; {advice}"
        )


def _change(config: RunConfig, former: Mapping[tuple[Any, ...], Sequence[dict[str, Any]]]) -> str:
    """Return how a cell differs from the most similar former run of its grade, size and seed."""
    olds = former.get((config.grade_name, config.n_samples, config.seed))
    if not olds:
        return ""
    after = _flat(asdict(config))
    fewest = min((_differences(_flat(old), after) for old in olds), key=len)
    return f"changed since an older run: {', '.join(fewest[:3])}{', ...' if fewest[3:] else ''}"


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} {before.get(key)} -> {after.get(key)}"
        for key in dict.fromkeys([*after, *before])
        if before.get(key) != after.get(key)
    ]


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _n_trained(configs: Sequence[RunConfig], share_prefix: bool) -> dict[str, int]:
    """Return for each signature the impressions that its cell adds to the training of its group."""
    if not share_prefix:
        return {config.signature: config.n_samples for config in configs}
    added: dict[str, int] = {}
    for group in group_runs(configs, share_prefix).values():
        before = 0
        for count, config in enumerate(group, start=1):
            total = trained_samples(group[:count])
            added[config.signature] = total - before
            before = total
    return added
