"""`audit_store`: checks for leaks, features that reveal the label, duplicates and unknown ids.

A store can follow every rule of the format and still hold bad data, for example if it was built from a table that
was joined with future rows. Each suspicion is a `Finding`: an `error` is a leak, a `warning` is something to
know before a study.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from scaling.arrays import Array
from scaling.audit.duplicates import Duplicates, count_duplicates
from scaling.audit.feature_counts import (
    Column,
    IdCounts,
    columns,
    count_ids,
    future_share,
    list_auc,
    user_column,
)
from scaling.errors import UserError
from scaling.store import (
    FEATURE_PATHS,
    EventStore,
    Feature,
    chunks,
    find_index_breaches,
    sees_only_the_past,
)

__all__ = ["Audit", "FeatureFacts", "Finding", "audit_store"]


# No single feature of a real log predicts this well: at 0.95 it is a noisy copy of the label.
SUSPICIOUS_AUC, LABEL_AUC = 0.85, 0.95
FUTURE_SHARE = 0.75  # see `future_share`
# Whose future click rates a feature of each group may reveal; a number may belong to the candidate or to the user.
_OWNERS = {"candidate": ("candidate",), "profile": ("user",), "numeric": ("candidate", "user")}
UNKNOWN_SHARE = 0.5
NOTABLE_SHARE = 0.001


@dataclass(frozen=True)
class Finding:
    """One suspicion; `message` is one line."""

    severity: Literal["error", "warning"]
    kind: str
    message: str


@dataclass(frozen=True)
class FeatureFacts:
    """Statistics of one feature.

    Attributes:
        auc: AUC in the test part of the training part's click rates by id; None if the test part has one class.
        n_values: number of ids (for a number or a history column: bins) in the training part.
        is_constant: whether all rows of the training part have the same value, or the same ones.
        unknown_train, unknown_test: share of the part's impressions (with several values per cell: of all its values)
            with an unknown id.
        untrained_test: share of the test impressions (or values) whose id never occurs in the training part.
        future_share: correlation with the change of the candidates' or users' click rates in the test part, see
            `feature_counts.future_share`; None if it cannot be computed.
        values_per_cell: mean and maximum over all impressions; None if each has one value.
    """

    group: str
    name: str
    auc: float | None
    n_values: int
    is_constant: bool
    unknown_train: float
    unknown_test: float
    untrained_test: float
    future_share: float | None
    values_per_cell: tuple[float, int] | None


@dataclass(frozen=True)
class Audit:
    """Everything that `scaling data check` reports.

    Attributes:
        without_history: share of impressions with an empty history, by part.
        new_users_test: share of test impressions whose user has no training impression.
    """

    features: tuple[FeatureFacts, ...]
    duplicates: Duplicates
    without_history: dict[str, float]
    new_users_test: float
    findings: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def audit_store(store: EventStore) -> Audit:
    """Check the data of a store, chunk by chunk.

    Raises:
        UserError: ids, users, labels or history ends are out of range; `scaling data validate` lists every broken rule.
    """
    for breach in find_index_breaches(store):
        raise UserError(f"{breach}; run `scaling data validate {store.path}`")
    owners = [column for column in (_item(store), user_column(store)) if column is not None]
    counted = [(owner, count_ids(store, owner)) for owner in owners]
    trained = _trained_ids(store)
    features = []
    for column in columns(store):
        counts = count_ids(store, column)
        shares = [
            share
            for owner, of_owner in counted
            if column.name != owner.name and owner.group in _OWNERS.get(column.group, ())
            if (share := future_share(store, owner, of_owner, column, counts)) is not None
        ]
        future = max(shares, key=abs, default=None)
        features.append(_facts(store, column, counts, trained.get(column.name), future))
    duplicates = count_duplicates(store)
    findings = [
        *_leaks(store),
        *(finding for facts in features for finding in _judge(facts, store)),
        *_repeats(duplicates, store),
    ]
    findings.sort(key=lambda finding: finding.severity)
    return Audit(
        tuple(features), duplicates, _without_history(store), _new_users(store), tuple(findings)
    )


def _leaks(store: EventStore) -> Iterator[Finding]:
    first, bad = -1, 0
    for rows in chunks(store.n_impressions):
        wrong = np.flatnonzero(~sees_only_the_past(store, rows))
        first = rows.start + int(wrong[0]) if len(wrong) and not bad else first
        bad += len(wrong)
    if bad:
        yield Finding(
            "error",
            "future_event",
            f"{bad:,} impressions (first: row {first:,}) have an event at or after their own second in their "
            "history: end each history strictly before the impression's second",
        )
    if store.split["kind"] == "time":
        latest = int(store.time[: store.n_train].max())
        earliest = int(store.time[store.n_train :].min())
        if latest >= earliest:
            yield Finding(
                "error",
                "overlap",
                f"the training part ends at {latest}, but the test part starts at {earliest}: split at one second",
            )


def _judge(facts: FeatureFacts, store: EventStore) -> Iterator[Finding]:
    name = f"{facts.group} {facts.name}"
    auc = facts.auc
    if auc is not None and auc > LABEL_AUC:
        yield Finding(
            "error", "label", f"{name} alone has an AUC of {auc:.4f}: it reveals the label"
        )
    elif auc is not None and auc > SUSPICIOUS_AUC:
        yield Finding(
            "warning",
            "auc",
            f"{name} alone has an AUC of {auc:.4f}: is it known before the impression?",
        )
    elif facts.future_share is not None and abs(facts.future_share) > FUTURE_SHARE:
        whose = "users'" if facts.group == "profile" else "candidates' or users'"
        yield Finding(
            "error",
            "future_statistic",
            f"{name} predicts how the {whose} click rates change in the test part (correlation "
            f"{facts.future_share:.2f}): is it a statistic over the whole log? Compute it from the training part only",
        )
    if facts.group in ("history", "cells"):
        return
    if facts.is_constant:
        yield Finding(
            "warning", "constant", f"{name} has the same value in the whole training part"
        )
    if facts.unknown_test > UNKNOWN_SHARE and facts.n_values > 1:
        yield Finding(
            "warning",
            "unknown",
            f"{name} is unknown in {facts.unknown_test:.1%} of the test part and {facts.unknown_train:.1%} of the "
            "training part: either the raw values are often missing, or the test part has mostly new ids",
        )
    if facts.untrained_test > NOTABLE_SHARE:
        yield Finding(
            "warning",
            "untrained",
            f"{name} has ids in {facts.untrained_test:.2%} of the test part that never occur in the training part: "
            "build the vocabulary from the training part only",
        )


def _repeats(duplicates: Duplicates, store: EventStore) -> Iterator[Finding]:
    for what, count, of in (
        ("impressions repeat another exactly", duplicates.impressions, store.n_impressions),
        (
            "impressions repeat another with the opposite label",
            duplicates.contradictions,
            store.n_impressions,
        ),
        ("events repeat another exactly", duplicates.events, store.n_events),
    ):
        if count > NOTABLE_SHARE * of:
            yield Finding("warning", "duplicates", f"{count:,} of {of:,} {what}")


def _facts(
    store: EventStore, column: Column, counts: IdCounts, trained: Array | None, future: float | None
) -> FeatureFacts:
    seen = counts.n_train > 0
    known = np.arange(column.size) != column.unknown
    has_ids = column.unknown is not None and column.values is None
    n_test = counts.test.sum()

    def unknown(of: Array) -> float:
        return 0.0 if column.unknown is None else float(of[column.unknown] / of.sum())

    untrained = counts.n_test[~(seen if trained is None else seen | trained) & known].sum()
    auc = counts.auc if column.lengths is None else list_auc(store, column, counts)
    return FeatureFacts(
        group=column.group,
        name=column.name,
        auc=None if np.isnan(auc) else auc,
        n_values=int((seen & known).sum()),
        is_constant=_is_constant(store, column, counts, known),
        unknown_train=unknown(counts.n_train),
        unknown_test=unknown(counts.n_test),
        untrained_test=float(untrained / n_test) if has_ids else 0.0,
        future_share=future,
        values_per_cell=_values_per_cell(store, column),
    )


def _is_constant(store: EventStore, column: Column, counts: IdCounts, known: Array) -> bool:
    """Whether all rows of the training part have the same value; of several values per cell, the same ones."""
    n_train = counts.n_train
    if column.lengths is None or column.shares is not None:
        return bool((n_train[known] > 0).sum() < 2)
    return bool(np.isin(n_train, (0, store.n_train)).all())


def _values_per_cell(store: EventStore, column: Column) -> tuple[float, int] | None:
    if column.lengths is None:
        return None
    total = most = 0
    for rows in chunks(store.n_impressions):
        lengths = column.lengths(rows)
        total, most = total + int(lengths.sum()), max(most, int(lengths.max()))
    return total / store.n_impressions, most


def _item(store: EventStore) -> Column | None:
    """Return the candidate feature with the most ids, which is taken as the item."""
    candidates = [
        column
        for column in columns(store)
        if column.group == "candidate" and column.lengths is None and column.values is None
    ]
    return max(candidates, key=lambda column: column.size, default=None)


def _trained_ids(store: EventStore) -> dict[str, Array]:
    """Return for each candidate feature which ids occur in the training part's events, bool [size]."""
    schema, trained_users = store.schema, np.zeros(store.n_users, dtype=bool)
    for rows in chunks(store.n_train):
        trained_users[store.user[rows]] = True
    seen = {}
    for f in schema.candidate:
        if not (f.is_plain or f.max_values > 1):  # a number
            continue
        shared = [b for b in schema.behaviour if b.vocabulary == f.vocabulary]
        seen[f.name] = np.zeros(schema.vocabularies[f.vocabulary], dtype=bool)
        for rows in chunks(store.n_events if shared else 0):
            if store.split["kind"] == "time":
                mine = store.event_time[rows] < store.split["boundary"]
            else:
                of_event = np.searchsorted(store.offsets, np.arange(rows.start, rows.stop), "right")
                mine = trained_users[of_event - 1]
            for b in shared:
                seen[f.name][_ids_of_events(store, b, rows, mine)] = True
    return seen


def _ids_of_events(store: EventStore, feature: Feature, rows: slice, wanted: Array) -> Array:
    """The ids of those events in `rows` that are wanted."""
    if feature.is_plain:
        return store.behaviours[feature.name][rows][wanted]
    cells = store.lists[f"{FEATURE_PATHS['behaviour']}{feature.name}"]
    if cells.offsets is None:
        return cells.ids[rows][wanted]
    begin, end = cells.offsets[[rows.start, rows.stop]]
    lengths = np.diff(cells.offsets[rows.start : rows.stop + 1])
    ids: Array = cells.ids[begin:end][np.repeat(wanted, lengths)]
    return ids


def _without_history(store: EventStore) -> dict[str, float]:
    counts = np.zeros(2, dtype=np.int64)
    for rows in chunks(store.n_impressions):
        empty = store.history_end[rows] == store.offsets[store.user[rows]]
        in_test = np.arange(rows.start, rows.stop) >= store.n_train
        counts += [np.count_nonzero(empty & ~in_test), np.count_nonzero(empty & in_test)]
    return {"train": float(counts[0] / store.n_train), "test": float(counts[1] / store.n_test)}


def _new_users(store: EventStore) -> float:
    trained = np.zeros(store.n_users, dtype=bool)
    for rows in chunks(store.n_train):
        trained[store.user[rows]] = True
    new = 0
    for rows in chunks(store.n_test):
        at = slice(rows.start + store.n_train, rows.stop + store.n_train)
        new += int(np.count_nonzero(~trained[store.user[at]]))
    return new / store.n_test
