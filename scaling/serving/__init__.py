"""How fast trained models answer requests: which runs to time, their models' names, and the saved reports.

The measurement itself needs torch. It is in `latency_bench`, which is imported by name. Not here: the
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
from scaling.serving.model_naming import model_columns, model_family, model_names

__all__ = [
    "ENOUGH_REQUESTS",
    "WAYS",
    "Latency",
    "RunToMeasure",
    "ServingReport",
    "merge_reports",
    "model_columns",
    "model_family",
    "model_names",
    "read_serving",
    "runs_to_measure",
    "with_models",
    "write_serving",
]
