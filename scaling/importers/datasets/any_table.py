"""Any log: CSV or Parquet files of impressions, events, users and items, whose columns a TOML names."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from scaling.errors import UserError, nearest
from scaling.importers.datasets.column_mapping import (
    EventsSection,
    FilesSection,
    ImpressionsSection,
    TableFile,
    read_table_file,
)
from scaling.importers.datasets.column_sql import (
    SectionColumns,
    column_of,
    condition_sql,
    label_sql,
    number_sql,
)
from scaling.importers.declaration import Check, Log, Negatives, Rows, Table
from scaling.importers.raw_files import column_names, find_files
from scaling.importers.split_options import CommonOptions
from scaling.importers.sql import quoted
from scaling.importers.times import check_time, has_summer_time, hour, offset_of, seconds, weekday

__all__ = ["TableOptions", "any_table"]


TIME_FEATURES = {"hour": hour, "weekday": weekday}
RESERVED = ("user", "time", "label")
KEYS = {"users": ("user",), "items": ("item",)}
NOT_A_POSITIVE = "events that are no positive"


@dataclass(frozen=True)
class TableOptions:
    """No options: everything is in the TOML."""


def any_table(raw: Path, options: TableOptions) -> Log:
    """Return the log described by the TOML at `raw`, or by the only TOML in that folder.

    Raises:
        UserError: a key of the TOML is wrong, or a column is in no file.
    """
    file, spec = read_table_file(raw)
    sections = {
        name: _section_columns(file.parent, name, section)
        for name in ("impressions", "events", "users", "items")
        if (section := getattr(spec, name)) is not None
    }
    _check_names(spec)
    main = sections["impressions" if spec.impressions else "events"]
    impressions, events, items = _rows(spec, sections, main)
    split = CommonOptions(
        spec.split.kind, spec.split.test_fraction, spec.split.test_from, spec.split.seed
    )
    drawn = spec.negatives
    users = _users(file, spec, sections.get("users"))
    return Log(
        tables={name: _table(spec, columns) for name, columns in sections.items()},
        impressions=impressions,
        events=events,
        users=users,
        items=items,
        behaviour=spec.features.behaviour,
        candidate=spec.features.candidate,
        context=spec.features.context,
        profile=spec.features.profile,
        numeric=spec.features.numeric,
        vocabularies=spec.features.vocabularies,
        min_count=spec.vocabularies.min_count,
        hashed=spec.vocabularies.hashed,
        split=split.parts(spec.zone),
        utc_offset_seconds=offset_of(spec.zone),
        negatives=None if drawn is None else Negatives(drawn.per_positive, drawn.draw, drawn.seed),
        facts={"table": asdict(spec)},
    )


def _section_columns(folder: Path, name: str, section: FilesSection) -> SectionColumns:
    first = find_files(folder, section.files)[0]
    layout = Table(section.files, {}, section.separator, quote=section.quote)
    return SectionColumns(name, section, section.names or tuple(column_names(first, layout)))


def _check_names(spec: TableFile) -> None:
    features = spec.features
    names = [
        *features.behaviour,
        *features.candidate,
        *features.context,
        *features.profile,
        *features.numeric,
    ]
    for role in ("behaviour", "candidate", "context", "profile", "numeric"):
        own = getattr(features, role)
        for i, name in enumerate(own):
            if name in own[:i]:
                raise UserError(f"features.{role}: {name!r} occurs twice, expected each name once")
    for name in names:
        if name in RESERVED:
            raise UserError(
                f"features: {name!r} is a reserved name; choose another and give its column in features.columns"
            )
    for key in ("columns", "vocabularies", "fill"):
        for name in getattr(features, key):
            if name not in names:
                raise UserError(
                    f"features.{key}.{name}: no feature has this name{nearest(name, names)}"
                )


def _users(file: Path, spec: TableFile, columns: SectionColumns | None) -> str | None:
    """Return the SELECT of the users, or None without `[users]`."""
    if columns is None:
        if spec.features.profile:
            raise UserError(
                f"{file}: features.profile: there is no section [users] for these features; add one"
            )
        return None
    features = [
        f"{columns.use(column_of(spec, name), 'text?', 'features.profile')}::VARCHAR AS {quoted(name)}"
        for name in spec.features.profile
    ]
    user = columns.use(columns.section.user, "text", "users.user")
    return f"SELECT {', '.join([f'{user}::VARCHAR AS user', *features])} FROM users"


def _rows(
    spec: TableFile, sections: dict[str, SectionColumns], main: SectionColumns
) -> tuple[Rows, Rows | None, str | None]:
    """Return the impressions, the events if they are other rows, and the SELECT of the items."""
    of_item, items = _items(spec, sections, main)
    roles = {"candidate": spec.features.candidate, "context": spec.features.context}
    numbers = [number_sql(spec, main, name) for name in spec.features.numeric]
    behaviour = {"behaviour": spec.features.behaviour}
    if "impressions" in sections and "events" in sections:
        impressions = _select(spec, main, of_item, roles, numbers)
        events = _select(spec, sections["events"], of_item, behaviour)
        return Rows(impressions), Rows(events), items
    both = _select(spec, main, of_item, {**roles, **behaviour}, numbers)
    if spec.negatives is None or spec.negatives.positive is None:
        return Rows(both), None, items
    positive = condition_sql(main, spec.negatives.positive, "negatives.positive")
    marked = _select(spec, main, of_item, roles, [*numbers, f"{positive} AS __positive"])
    events = _select(spec, main, of_item, behaviour)
    return Rows(marked, {NOT_A_POSITIVE: "NOT coalesce(__positive, false)"}), Rows(events), items


def _items(
    spec: TableFile, sections: dict[str, SectionColumns], main: SectionColumns
) -> tuple[dict[str, str], str | None]:
    """Return the features that are joined by item, with their columns, and the SELECT of the items.

    If negatives are drawn, all candidate features are joined by item, because a drawn item has no row of its own.
    Without `[items]` a feature is then the smallest value in the item's events.
    """
    columns = sections.get("items")
    features = spec.features
    wanted = {
        name: column_of(spec, name)
        for name in (*features.behaviour, *features.candidate)
        if name != "item"
    }
    if columns is not None:
        own = {
            name: column
            for name, column in wanted.items()
            if column in columns.available
            and (spec.negatives is not None or column not in main.available)
        }
        item = columns.use(columns.section.item, "text", "items.item")
        values = [
            f"{columns.use(column, 'text?', 'features')}::VARCHAR AS {quoted(name)}"
            for name, column in own.items()
        ]
        return own, f"SELECT {', '.join([f'{item}::VARCHAR AS item', *values])} FROM items"
    if spec.negatives is None or main.section.item is None:
        return {}, None
    own = {name: wanted[name] for name in features.candidate if name != "item"}
    item = main.use(main.section.item, "text", "events.item")
    values = [
        f"min({main.use(column, 'text?', 'features.candidate')}::VARCHAR) AS {quoted(name)}"
        for name, column in own.items()
    ]
    select = ", ".join([f"{item}::VARCHAR AS item", *values])
    return own, f"SELECT {select} FROM events GROUP BY ALL"


def _select(
    spec: TableFile,
    columns: SectionColumns,
    of_item: dict[str, str],
    roles: dict[str, tuple[str, ...]],
    others: Iterable[str] = (),
) -> str:
    """Return a SELECT of user, time, item, label and the features of `roles` that are not joined by item."""
    section: EventsSection = columns.section
    time = columns.use(section.time, _time_kind(section), f"{columns.name}.time")
    if section.unit != "timestamp":
        time = seconds(time, section.unit)
    user = columns.use(section.user, "text", f"{columns.name}.user")
    values = {"user": f"{user}::VARCHAR", "time": time}
    if isinstance(section, ImpressionsSection):
        values["label"] = label_sql(columns, section)
    if section.item is not None:
        values["item"] = f"{columns.use(section.item, 'text', f'{columns.name}.item')}::VARCHAR"
    offset = offset_of(spec.zone)
    zone = spec.zone if has_summer_time(spec.zone) else offset
    for role, names in roles.items():
        for name in names:
            column = column_of(spec, name)
            if name in values or name in of_item:
                continue
            if name in TIME_FEATURES and column not in columns.available:
                values[name] = TIME_FEATURES[name](time, zone)
            else:
                values[name] = f"{columns.use(column, 'text?', f'features.{role}')}::VARCHAR"
    parts = [f"{value} AS {quoted(name)}" for name, value in values.items()]
    return f"SELECT {', '.join([*parts, *others])} FROM {columns.name}"


def _time_kind(section: EventsSection) -> str:
    return "timestamp" if section.unit == "timestamp" else "int"


def _table(spec: TableFile, columns: SectionColumns) -> Table:
    """Return the section's table; call it last, because it needs every column in use."""
    section = columns.section
    checks = []
    if isinstance(section, EventsSection):
        checks.append(
            check_time(section.time, "s" if section.unit == "timestamp" else section.unit)
        )
    if isinstance(section, ImpressionsSection) and section.label is not None:
        checks.append(Check(section.label, f"{quoted(section.label)} IN (0, 1)", "0 or 1"))
    drop = {
        rule.reason: condition_sql(columns, rule, f"{columns.name}.drop") for rule in section.drop
    }
    kinds = columns.kinds
    if section.names:
        kinds = {name: columns.kinds.get(name, "text?") for name in section.names}
    return Table(
        section.files,
        kinds,
        section.separator,
        header=not section.names,
        quote=section.quote,
        encoding=section.encoding,
        checks=tuple(checks),
        drop=drop,
        key=tuple(getattr(section, key) for key in KEYS.get(columns.name, ())),
        drop_repeats=section.drop_repeats,
        zone=spec.zone,
        time_format=getattr(section, "format", ""),
    )
