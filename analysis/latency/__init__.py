"""Accuracy against latency: served models, the Pareto front, the best model under a budget.

Not here: measuring latency (`scaling.serving`).
"""

from analysis.latency.served import (
    Served,
    best_of_each,
    best_under,
    measured_counts,
    pareto_front,
    served_models,
)

__all__ = [
    "Served",
    "best_of_each",
    "best_under",
    "measured_counts",
    "pareto_front",
    "served_models",
]
