"""How fast trained models answer requests: which runs to time, and the report kept beside each run.

The measurement itself needs torch and is in `latency_bench`, which is imported by name. Not here: the
scorer (`models.scoring`), accuracy against latency (`analysis.latency`).
"""

from scaling.serving.latency_report import (
    ENOUGH_REQUESTS,
    WAYS,
    Latency,
    ServingReport,
    merge_reports,
    read_serving,
    write_serving,
)
from scaling.serving.model_choice import RunToMeasure, runs_to_measure, with_models

__all__ = [
    "ENOUGH_REQUESTS",
    "WAYS",
    "Latency",
    "RunToMeasure",
    "ServingReport",
    "merge_reports",
    "read_serving",
    "runs_to_measure",
    "with_models",
    "write_serving",
]
