"""Text of `scaling data show` and `scaling data check`."""

from typing import TYPE_CHECKING, Any

from scaling.cli.tables import Table
from scaling.store import FEATURE_PATHS

if TYPE_CHECKING:
    from scaling.audit import Audit

__all__ = ["describe_audit", "describe_store"]


def describe_store(document: dict[str, Any]) -> list[str | Table]:
    """Return the summary of a store (`summarize_store`) as the parts of a text."""
    schema, counts = document["schema"], document["counts"]
    facts: list[list[object]] = [
        ["store", document["path"]],
        ["source", _source(document["source"])],
        ["fingerprint", document["fingerprint"]],
        ["split", _split(document["split"])],
        ["users", f"{counts['users']:,}"],
        ["events", f"{counts['events']:,}"],
        ["requests", f"{counts['requests']:,}"],
        [
            "size",
            f"{document['bytes'] / 1e6:,.1f} MB, {document['bytes_per_impression']:.0f} bytes per impression",
        ],
    ]
    days, sizes = document["days"], document["nested_sizes"]
    facts += [
        ["days", f"{len(days)}, {days[0]['date']} to {days[-1]['date']} ({_zone(document)})"],
        ["data sizes", f"{len(sizes)} by halving, {sizes[0]:,} to {sizes[-1]:,}"],
    ]
    facts += [[name, f"{value:.6f}"] for name, value in (document["truth"] or {}).items()]
    parts = [
        [part, counts[part], document["base_rate"][part], *document["span"][part]]
        for part in ("train", "test")
    ]
    features: list[list[object]] = [
        [
            group,
            feature["name"],
            feature["vocabulary"],
            schema["vocabularies"][feature["vocabulary"]],
            _cell(document, group, feature),
        ]
        for group in ("behaviour", "candidate", "context", "profile")
        for feature in schema[group]
    ]
    features += [["numeric", name, "-", None, "number"] for name in schema["numeric"]]
    quantiles = document["history_quantiles"]
    return [
        *(f"{name:<14}{value}" for name, value in facts),
        "",
        Table(["part", "impressions", "base rate", "first (UTC)", "last (UTC)"], parts),
        "",
        Table(["group", "feature", "vocabulary", "size", "cell"], features),
        "",
        "events before an impression",
        Table(list(quantiles), [[round(value) for value in quantiles.values()]]),
    ]


def _cell(document: dict[str, Any], group: str, feature: dict[str, Any]) -> str:
    """What a cell of a feature holds."""
    path = f"{FEATURE_PATHS[group]}{feature['name']}"
    weighted = ", weighted" if feature.get("weighted") else ""
    if path in document["values_per_cell"]:
        mean, most = document["values_per_cell"][path]
        pooling = feature.get("pooling", "mean")
        return f"{mean:.2f} values, at most {most}{weighted} ({pooling})"
    return "number" if weighted else "one value"


def _source(source: dict[str, Any]) -> str:
    name = source.get("importer") or source.get("kind", "unknown")
    settings = source.get("options") or source.get("config") or {}
    return " ".join([name, *(f"{key}={value}" for key, value in settings.items())])


def _split(split: dict[str, Any]) -> str:
    if split["kind"] == "time":
        return f"by time, test part from {split['boundary']}"
    return "by user" if split["kind"] == "user" else "as the log brings it"


def _zone(document: dict[str, Any]) -> str:
    hours, seconds = divmod(abs(document["utc_offset_seconds"]), 3600)
    sign = "-" if document["utc_offset_seconds"] < 0 else "+"
    return f"UTC{sign}{hours:02d}:{seconds // 60:02d}" if hours or seconds else "UTC"


def describe_audit(audit: "Audit") -> list[str | Table]:
    """Return the audit of a store as the parts of a text, with the findings at the end."""
    header = [
        "group",
        "feature",
        "AUC alone",
        "ids",
        "unknown train",
        "unknown test",
        "untrained test",
        "future",
        "values (most)",
    ]
    ranked = sorted(audit.features, key=lambda facts: -(facts.auc or 0.0))
    rows = [
        [
            facts.group,
            facts.name,
            facts.auc,
            facts.n_values,
            facts.unknown_train,
            facts.unknown_test,
            facts.untrained_test,
            facts.future_share,
            None
            if facts.values_per_cell is None
            else f"{facts.values_per_cell[0]:.2f} ({facts.values_per_cell[1]})",
        ]
        for facts in ranked
    ]
    repeats = audit.duplicates
    facts_of_all: list[list[object]] = [
        ["repeated impressions", f"{repeats.impressions:,}"],
        ["... with different labels", f"{repeats.contradictions:,}"],
        ["repeated events", f"{repeats.events:,}"],
        [
            "without history",
            f"{audit.without_history['train']:.2%} of train, {audit.without_history['test']:.2%} of test",
        ],
        ["users not in train", f"{audit.new_users_test:.2%} of test"],
    ]
    findings = [f"{finding.severity}: {finding.message}" for finding in audit.findings]
    return [
        Table(header, rows),
        "",
        *(f"{name:<26}{value}" for name, value in facts_of_all),
        "",
        *(findings or ["nothing suspicious"]),
    ]
