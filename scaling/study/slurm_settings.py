"""`[slurm]` and `[slurm.grades.NAME]` of a study: sbatch options for all jobs, and those of one grade.

`sweeps.dispatch.sbatch_resources` turns them into the options of each job array.
"""

from dataclasses import asdict, dataclass, field, replace

from scaling.strict_values import require_positive

__all__ = ["SlurmConfig", "SlurmGrade"]


# options that the dispatch sets itself, or that have a key of their own in [slurm]
_OWN_SBATCH_OPTIONS = (
    *("array", "job-name", "output", "error", "open-mode", "requeue", "no-requeue", "signal"),
    *("partition", "time", "mem", "cpus-per-task", "gpus-per-node", "export"),
    *("nodes", "ntasks", "ntasks-per-node"),
)


@dataclass(frozen=True)
class SlurmGrade:
    """`[slurm.grades.NAME]`: sbatch options of this grade's jobs; None: as in `[slurm]`."""

    partition: str | None = None
    time_minutes: int | None = None
    memory_gib: float | None = None
    cpus: int | None = None
    gpus: int | None = None
    nodes: int | None = None
    tasks_per_node: int | None = None
    cells_per_job: int | None = None

    def __post_init__(self) -> None:
        """Check that all sizes are positive."""
        require_positive(self, "time_minutes", "memory_gib", "cpus", "cells_per_job")
        require_positive(self, "nodes", "tasks_per_node")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}, expected 0 or more")


@dataclass(frozen=True)
class SlurmConfig:
    """`[slurm]`: sbatch options of all jobs; they do not change a run's signature.

    Attributes:
        partition: None: the cluster's default.
        time_minutes: time limit of a job; None: from the estimate.
        memory_gib: memory of a job on each node; None: from the estimate.
        cpus: cores of each task of a job.
        gpus: GPUs of a job on each node; each has a task of its own, and all tasks of a job train its cells together.
        nodes: nodes of a job.
        tasks_per_node: processes on each node; None: one for each GPU, or one. On cores they train a cell together, too.
        max_parallel: how many jobs of the sweep run at the same time.
        cells_per_job: cells that a job trains; None: short cells share a job, by their estimates.
        setup: shell lines that run before the worker starts, e.g. `module load cuda`.
        options: further sbatch options, the same for all grades, e.g. `account = "ours"`.
        grades: options that differ for one grade.
    """

    partition: str | None = None
    time_minutes: int | None = None
    memory_gib: float | None = None
    cpus: int = 1
    gpus: int = 0
    nodes: int = 1
    tasks_per_node: int | None = None
    max_parallel: int = 16
    cells_per_job: int | None = None
    setup: tuple[str, ...] = ()
    options: dict[str, str | int | bool] = field(default_factory=dict)
    grades: dict[str, SlurmGrade] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that all sizes are positive, and refuse options that the dispatch sets itself."""
        require_positive(self, "time_minutes", "memory_gib", "cpus", "cells_per_job")
        require_positive(self, "max_parallel", "nodes", "tasks_per_node")
        if self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}, expected 0 or more")
        for name in self.options:
            if name.replace("_", "-") in _OWN_SBATCH_OPTIONS:
                raise ValueError(
                    f"options.{name}: is set by scaling itself, or has a key of its own"
                )

    @property
    def n_tasks(self) -> int:
        """Tasks of a job on each node."""
        return self.tasks_per_node or max(1, self.gpus)

    @property
    def n_ranks(self) -> int:
        """Processes that train a cell together."""
        return self.nodes * self.n_tasks

    @property
    def n_devices(self) -> int:
        """GPUs of a job, or its processes if it has none."""
        return self.nodes * self.gpus or self.n_ranks

    def of_grade(self, name: str) -> "SlurmConfig":
        """Return the settings for a grade: its own ones replace the general ones."""
        own = self.grades.get(name)
        if own is None:
            return self
        chosen = replace(self, **{k: v for k, v in asdict(own).items() if v is not None})
        # the number of tasks follows the GPUs of the grade, unless the grade has its own
        if own.gpus is not None and own.tasks_per_node is None:
            chosen = replace(chosen, tasks_per_node=None)
        return chosen
