"""What to train: the study file and its sections, one cell and its signature. Needs no torch.

Not here: the grid and its costs (`sweeps.planning`), training (`scaling.training`).
"""

from scaling.study.batch_growth import (
    SMALLEST_BATCH,
    BatchPhase,
    BatchSchedule,
    batch_phases,
    count_steps,
)
from scaling.study.goal_settings import GoalConfig
from scaling.study.law_in_file import with_rate_law
from scaling.study.rate_law import RateLaw
from scaling.study.recipe import (
    BETAS,
    GRADIENT_CLIP,
    GROWING_WARMUP,
    TOKENS_PER_PART,
    Recipe,
    batch_factor,
    rate_factor,
    recipe_for,
    warmup_steps,
)
from scaling.study.run_config import RUN_SCHEMA_VERSION, RunConfig
from scaling.study.sections import DataConfig, RunOptions, StudyConfig, TrainConfig
from scaling.study.shared_prefix import group_runs, lease_key, trained_samples
from scaling.study.slurm_settings import SlurmConfig
from scaling.study.study_data import DataFacts, data_facts, ensure_data
from scaling.study.study_file import check_name, load_study, override_value
from scaling.study.teacher_settings import NO_TEACHER, Distillation, DistillConfig, teacher_flops

__all__ = [
    "BETAS",
    "GRADIENT_CLIP",
    "GROWING_WARMUP",
    "NO_TEACHER",
    "RUN_SCHEMA_VERSION",
    "SMALLEST_BATCH",
    "TOKENS_PER_PART",
    "BatchPhase",
    "BatchSchedule",
    "DataConfig",
    "DataFacts",
    "DistillConfig",
    "Distillation",
    "GoalConfig",
    "RateLaw",
    "Recipe",
    "RunConfig",
    "RunOptions",
    "SlurmConfig",
    "StudyConfig",
    "TrainConfig",
    "batch_factor",
    "batch_phases",
    "check_name",
    "count_steps",
    "data_facts",
    "ensure_data",
    "group_runs",
    "lease_key",
    "load_study",
    "override_value",
    "rate_factor",
    "recipe_for",
    "teacher_flops",
    "trained_samples",
    "warmup_steps",
    "with_rate_law",
]
