"""The direction of a metric: by the words of its name, or by the rows."""

import numpy as np
import pandas as pd
import pytest

from analysis.table import direction, falls_with, rises


@pytest.mark.parametrize(
    "metric",
    [
        *("gauc", "uauc", "hit@10", "hits@10", "recall@k", "precision@k", "pass@k", "acc", "accuracy", "f1"),
        *("mrr", "map", "mAP", "ndcg@k", "NDCG@10", "val/auc", "auc_test", "auc_pct", "test_auc", "AUC", "hr@10"),
        *("pr_auc", "soft_auc", "hit_rate", "neg_log_loss", "validAUC", "auc100"),
    ],
)  # fmt: skip
def test_a_metric_that_rises(metric):
    assert direction(metric) is True
    assert rises(metric)


@pytest.mark.parametrize(
    "metric",
    [
        *("logloss", "bce", "ce", "loss", "mse", "rmse", "ne", "perplexity", "eval/loss", "LogLoss", "val_ce"),
        *("normalized_entropy", "soft_logloss", "1-auc", "one_minus_auc", "negative_log_likelihood", "error_rate"),
    ],
)  # fmt: skip
def test_a_metric_that_falls(metric):
    assert direction(metric) is False
    assert not rises(metric)


@pytest.mark.parametrize(
    "metric", ["y", "score_x", "auc_loss", "ne_gain", "nebula", "mapped", "glossary", "hitter"]
)
def test_a_name_that_does_not_tell(metric):
    assert direction(metric) is None


@pytest.mark.parametrize(("slope", "falls"), [(-0.1, True), (0.1, False), (0.0, False)])
def test_the_rows_tell_whether_a_metric_falls(slope, falls):
    n, d = (a.ravel() for a in np.meshgrid([1e3, 1e4, 1e5], [1e6, 1e7]))
    rows = pd.DataFrame({"n": n, "d": d, "y": slope * np.log(n)})
    assert falls_with(rows, "y", ["n", "d"]) is falls
