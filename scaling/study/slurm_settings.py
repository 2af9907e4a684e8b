"""`[slurm]` and `[slurm.grades.NAME]` of a study: sbatch options for all jobs, and those of one grade.

`sweeps.dispatch.sbatch_resources` turns them into the options of each job array.
"""

import re
from dataclasses import asdict, dataclass, field, replace

from scaling.strict_values import require_positive

__all__ = ["SlurmConfig", "SlurmGrade"]


# options that the dispatch sets itself, or that have a key of their own in [slurm]
_OWN_SBATCH_OPTIONS = (
    *("array", "job-name", "output", "error", "open-mode", "requeue", "no-requeue", "signal"),
    *("partition", "time", "mem", "cpus-per-task", "gpus-per-node", "export"),
    *("nodes", "ntasks", "ntasks-per-node"),
)


# An MPS server has at most so many clients (NVIDIA, Multi-Process Service, "Limitations"; some drivers allow more).
_MOST_CELLS_PER_GPU = 48


@dataclass(frozen=True)
class SlurmGrade:
    """`[slurm.grades.NAME]`: sbatch options of this grade's jobs that differ from those of `[slurm]`."""

    partition: str | None = None
    time_minutes: int | None = None
    memory_gib: float | None = None
    cpus: int | None = None
    gpus: int | None = None
    nodes: int | None = None
    tasks_per_node: int | None = None
    cells_per_job: int | None = None
    cells_per_gpu: int | None = None

    def __post_init__(self) -> None:
        """Check that all sizes are positive."""
        require_positive(self, "time_minutes", "memory_gib", "cpus", "cells_per_job")
        require_positive(self, "nodes", "tasks_per_node", "cells_per_gpu")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}, expected 0 or more")


@dataclass(frozen=True)
class SlurmConfig:
    """`[slurm]`: sbatch options of all jobs; they do not change a run's signature.

    Attributes:
        partition: of all jobs. Default: the cluster's.
        time_minutes: time limit of a job. Default: from the estimate.
        memory_gib: memory of a job on each node. Default: from the estimate.
        cpus: cores of each task of a job.
        gpus: GPUs of a job on each node; each has a task of its own, and all tasks of a job train its cells together.
        nodes: nodes of a job.
        tasks_per_node: processes on each node; on cores they train a cell together, too. Default: one for each GPU, or one.
        max_parallel: how many jobs of the sweep run at the same time.
        cells_per_job: cells that a job trains. Default: short cells share a job, by their estimates.
        cells_per_gpu: cells that a job trains side by side on its GPU, each in a process and on a core of its own.
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
    cells_per_gpu: int = 1
    setup: tuple[str, ...] = ()
    options: dict[str, str | int | bool] = field(default_factory=dict)
    grades: dict[str, SlurmGrade] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that all sizes are positive and agree, and refuse options that the dispatch sets itself."""
        require_positive(self, "time_minutes", "memory_gib", "cpus", "cells_per_job")
        require_positive(self, "max_parallel", "nodes", "tasks_per_node", "cells_per_gpu")
        if self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}, expected 0 or more")
        for name in self.options:
            # submitit writes them into a shell script as they are
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
                raise ValueError(
                    f"options.{name!r}: cannot be an option of sbatch; use letters, digits, _ and -"
                )
            if name.replace("_", "-") in _OWN_SBATCH_OPTIONS:
                raise ValueError(
                    f"options.{name}: is set by scaling itself, or has a key of its own"
                )
        if self.gpus and self.tasks_per_node not in (None, self.gpus):
            raise ValueError(
                f"tasks_per_node is {self.tasks_per_node} and gpus is {self.gpus}, but each GPU has a task of its own; leave out "
                "tasks_per_node"
            )
        self._check_cells_per_gpu()
        for name in self.grades:
            try:
                self.of_grade(name)
            except ValueError as error:
                raise ValueError(f"grades.{name}: {error}") from error

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
        settings = {k: v for k, v in asdict(own).items() if v is not None}
        # the number of tasks follows the GPUs of the grade, unless the grade has its own
        if own.gpus is not None:
            settings.setdefault("tasks_per_node", None)
        return replace(self, **{"grades": {}, **settings})

    def _check_cells_per_gpu(self) -> None:
        """Check that cells can share the GPU of a job.

        Raises:
            ValueError: there is none, or several processes train a cell together, or a job has fewer cells.
        """
        if self.cells_per_gpu == 1:
            return
        wish = f"cells_per_gpu is {self.cells_per_gpu}, but"
        if self.gpus == 0:
            raise ValueError(f"{wish} gpus is 0: on cores, each cell has a core of its own anyway")
        if self.n_devices > 1 or self.n_ranks > 1:
            raise ValueError(
                f"{wish} a job has {self.nodes * self.gpus} GPUs and {self.n_ranks} tasks; cells share the one GPU of a job with "
                "one task, so set cells_per_gpu = 1, or gpus = 1 without nodes and tasks_per_node"
            )
        if self.cells_per_gpu > _MOST_CELLS_PER_GPU:
            raise ValueError(f"{wish} a GPU serves at most {_MOST_CELLS_PER_GPU} processes")
        if self.cells_per_job is not None and self.cells_per_gpu > self.cells_per_job:
            raise ValueError(f"{wish} a job has {self.cells_per_job} cells (cells_per_job)")
