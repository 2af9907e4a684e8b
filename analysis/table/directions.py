"""Whether a metric rises or falls as models get better, by the words in its name or by the rows."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

__all__ = ["direction", "falls_with", "rises"]


# Words as they stand in names such as val/auc, gauc_test, hit@10, NDCG10.
_RISING = frozenset(
    (
        *("auc", "gauc", "uauc", "wuauc", "wauc", "qauc", "pauc", "auroc", "rocauc", "auprc", "prauc", "aucpr"),
        *("ap", "map", "mrr", "ndcg", "dcg", "hit", "hits", "hitrate", "hr", "recall", "precision", "pass"),
        *("acc", "accuracy", "f1", "fscore", "match", "win", "reward", "bleu", "rouge", "r2", "likelihood"),
        *("rig", "spearman", "pearson", "kendall"),
    )
)  # fmt: skip
_FALLING = frozenset(
    (
        *("loss", "logloss", "bce", "ce", "nll", "xent", "crossentropy", "entropy", "ne", "perplexity", "ppl"),
        *("mse", "rmse", "rmsle", "mae", "mape", "error", "err", "brier", "ece", "regret", "bpb", "bpc", "bpd"),
        *("wer", "cer", "kl"),
    )
)  # fmt: skip
# These turn the direction of what follows: neg_log_loss, negative_log_likelihood, one_minus_auc.
_TURNING = frozenset(("neg", "negative", "minus"))


def direction(metric: str) -> bool | None:
    """Whether larger is better, by the words of the metric's name.

    Returns:
        True for a metric that rises (`gauc`, `hit@10`, `auc_test`), False for one that falls (`eval/loss`, `ne`), None if no
        word says so or words disagree (`auc_loss`, `ne_gain`).
    """
    text = re.sub(r"^1\s*-\s*", "minus ", metric)
    text = re.sub(r"([a-z])([A-Z][a-z])", r"\1 \2", re.sub(r"([a-z]{2})([A-Z]{2})", r"\1 \2", text))
    words = [word for word in re.split(r"[^a-z0-9]+", text.lower()) if word]
    if {"gain", "drop", "gap", "delta", "diff"} & set(words):
        return None  # of a difference the sign is anyone's choice
    named = {word if word in ("f1", "r2") else word.rstrip("0123456789") for word in words}
    up, down = bool(named & _RISING), bool(named & _FALLING)
    if up == down:
        return None
    return up != bool(named & _TURNING)


def rises(metric: str) -> bool:
    """Whether larger is better, by the metric's name; a metric of unknown direction is taken to fall."""
    return direction(metric) is True


def falls_with(table: pd.DataFrame, metric: str, sizes: Sequence[str]) -> bool:
    """Whether a metric falls from the smallest to the largest sizes, by a line in the logs of all sizes.

    Args:
        table: one row per run; rows without a finite metric or a positive size are passed over.
        metric: column of the metric.
        sizes: columns of sizes.
    """
    frame = table[[*sizes, metric]].astype(float)
    values = frame.to_numpy()
    frame = frame[np.isfinite(values).all(axis=1) & (values[:, :-1] > 0).all(axis=1)]
    if len(frame) < 2:
        return True  # nothing speaks against it; the fit says that there are too few points
    logs = np.log(frame[list(sizes)].to_numpy())
    centred = logs - logs.mean(axis=0)
    slopes = np.linalg.lstsq(
        centred, (frame[metric] - frame[metric].mean()).to_numpy(), rcond=None
    )[0]
    return float(slopes @ np.ptp(logs, axis=0)) < 0
