"""Any log: CSV or Parquet files of impressions, events, users and items, whose columns a TOML names."""

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from scaling.errors import UserError
from scaling.importers.declaration import (
    Check,
    GivenSplit,
    Log,
    Negatives,
    Rows,
    Table,
    TimeSplit,
    UserSplit,
)
from scaling.importers.mapping import (
    TIME_FEATURES,
    EventsSection,
    FilesSection,
    ImpressionsSection,
    SectionColumns,
    TableFile,
    check_features,
    column_of,
    condition_sql,
    event_number,
    event_numbers,
    feature_sql,
    filled_sql,
    given_test_sql,
    history_sql,
    label_sql,
    list_feature,
    number_sql,
    read_table_file,
)
from scaling.importers.raw_files import column_names, find_files, is_parquet
from scaling.importers.split_options import CommonOptions
from scaling.importers.sql import PERSON, quoted
from scaling.importers.times import check_time, has_summer_time, offset_of, seconds

__all__ = ["TableOptions", "any_table"]


logger = logging.getLogger(__name__)

KEYS = {"users": ("user",), "items": ("item",)}
NOT_A_POSITIVE = "events that are no positive"
# The column with the number of a row; no raw column is called so.
ROW_NUMBER = "%row number"
# What Hive, SQL, JSON, pandas and Python write for an empty cell.
EMPTY_ELSEWHERE = ("\\N", "NULL", "null", "NaN", "nan", "None")


@dataclass(frozen=True)
class TableOptions:
    """No options: everything is in the TOML."""


def any_table(raw: Path, options: TableOptions) -> Log:
    """Return the log described by the TOML at `raw`, or by the only TOML in that folder.

    Raises:
        UserError: a key of the TOML is wrong, or a column is in no file.
    """
    file, spec = read_table_file(raw)
    utc_offset = offset_of(spec.zone)
    sections = {
        name: _section_columns(file.parent, name, section)
        for name in ("impressions", "events", "users", "items")
        if (section := getattr(spec, name)) is not None
    }
    check_features(spec)
    main = sections["impressions" if spec.impressions else "events"]
    of_item, items = _items(spec, sections, main)
    impressions, events = _rows(spec, sections, main, of_item)
    nulls = {null for columns in sections.values() for null in columns.section.null}
    numbers = {
        name: event_number(spec, main, of_item, name) for name in spec.features.behaviour_numeric
    }
    drawn = spec.negatives
    users = _users(file, spec, sections.get("users"))
    if users is not None and spec.history is not None:
        user, _, _ = history_sql(spec, main, "0")
        person = quoted(main.section.user)
        users = (
            f"SELECT DISTINCT own.user, p.* EXCLUDE (user) FROM (SELECT {user} AS user, {person}::VARCHAR AS person "
            f"FROM {main.name}) own JOIN ({users}) p ON own.person = p.user"
        )
    return Log(
        tables={name: _table(spec, columns, nulls) for name, columns in sections.items()},
        impressions=impressions,
        events=events,
        users=users,
        items=items,
        items_of_rows=items is not None and spec.items is None,
        behaviour=spec.features.behaviour,
        candidate=spec.features.candidate,
        context=spec.features.context,
        profile=spec.features.profile,
        numeric=spec.features.numeric,
        numeric_hints={name: _hint(spec, sections, main, name) for name in spec.features.numeric},
        lists={name: list_feature(spec, name, nulls) for name in spec.lists},
        event_numeric=numbers,
        vocabularies=spec.features.vocabularies,
        min_count=spec.vocabularies.min_count,
        hashed=spec.vocabularies.hashed,
        split=_split(spec),
        own_lists=spec.history is not None,
        person="user" if spec.history is None else PERSON,
        utc_offset_seconds=utc_offset,
        negatives=None if drawn is None else Negatives(drawn.per_positive, drawn.draw, drawn.seed),
        facts={"table": asdict(spec)},
    )


def _split(spec: TableFile) -> TimeSplit | UserSplit | GivenSplit:
    own = spec.split
    if own.kind in ("column", "file"):
        return GivenSplit()
    return CommonOptions(own.kind, own.test_fraction, own.test_from, own.seed).parts(spec.zone)


def _section_columns(folder: Path, name: str, section: FilesSection) -> SectionColumns:
    files = find_files(folder, section.files)
    layout = Table(section.files, {}, section.separator, quote=section.quote, escape=section.escape)
    filled = [file for file in files if file.path.stat().st_size] or files
    read = filled if section.absent == "empty" else filled[:1]
    first = os.path.relpath(read[0].path, folder)
    columns: list[str] = []
    for file in read:
        own = section.names if not is_parquet(file.path) else ()
        columns += [*(own or column_names(file.path, layout)), *file.partitions]
    return SectionColumns(
        name, section, tuple(dict.fromkeys(columns)), first, tuple(f.path.name for f in files)
    ).use_keys()


def _users(file: Path, spec: TableFile, columns: SectionColumns | None) -> str | None:
    """Return the SELECT of the users, or None without `[users]`."""
    if columns is None:
        if spec.features.profile:
            raise UserError(
                f"{file}: features.profile: there is no section [users] for these features; add one"
            )
        return None
    features = [
        f"{feature_sql(spec, columns, name, 'features.profile')} AS {quoted(name)}"
        for name in spec.features.profile
    ]
    user = columns.use(columns.section.user, "text", "users.user")
    return f"SELECT {', '.join([f'{user}::VARCHAR AS user', *features])} FROM users"


def _rows(
    spec: TableFile,
    sections: dict[str, SectionColumns],
    main: SectionColumns,
    of_item: dict[str, str],
) -> tuple[Rows, Rows | None]:
    """Return the impressions, and the events if they are other rows."""
    roles = {"candidate": spec.features.candidate, "context": spec.features.context}
    numbers, joins = _numbers(spec, sections, main)
    numbers += given_test_sql(spec, main)
    behaviour = {"behaviour": spec.features.behaviour}
    if spec.history is not None:
        user, events, _ = history_sql(spec, main, _time(spec.zone, main, main.section))
        impressions = _select(spec, main, of_item, roles, numbers, joins, user=user)
        return Rows(impressions), Rows(events)
    if "impressions" in sections and "events" in sections:
        impressions = _select(spec, main, of_item, roles, numbers, joins)
        own = event_numbers(spec, sections["events"], of_item)
        events = _select(spec, sections["events"], of_item, behaviour, own)
        return Rows(impressions), Rows(events)
    numbers += event_numbers(spec, main, of_item, but=spec.features.numeric)
    both = _select(spec, main, of_item, {**roles, **behaviour}, numbers, joins)
    if spec.negatives is None or spec.negatives.positive is None:
        return Rows(both), None
    positive = condition_sql(main, spec.negatives.positive, "negatives.positive")
    marked = _select(spec, main, of_item, roles, [*numbers, f"{positive} AS __positive"], joins)
    if spec.items is None:  # their values of candidate features are counted, too
        behaviour["candidate"] = spec.features.candidate
    events = _select(spec, main, of_item, behaviour, event_numbers(spec, main, of_item))
    return Rows(marked, {NOT_A_POSITIVE: "NOT coalesce(__positive, false)"}), Rows(events)


def _numbers(
    spec: TableFile, sections: dict[str, SectionColumns], main: SectionColumns
) -> tuple[list[str], str]:
    """Return SQL for the numeric features, and the joins for those of items and users.

    Raises:
        UserError: there is no such column, or an item's number is wanted for drawn items.
    """
    numbers, joins = [], ""
    for name in spec.features.numeric:
        column, of = column_of(spec, name), _joined_from(spec, sections, main, name)
        if of is None:
            numbers.append(number_sql(spec, main, name))
            continue
        key = of.name.removesuffix("s")
        if of.name == "items" and spec.negatives is not None:
            raise UserError(
                f"features.numeric: {name!r} is a number of the items, which drawn negatives would lack; remove it, or make a "
                "category of it"
            )
        if getattr(main.section, key) is None:
            raise UserError(
                f"{main.name}.{key}: missing, but features.numeric {name!r} is joined by it"
            )
        own = main.use(getattr(main.section, key), "text", f"{main.name}.{key}")
        other = of.use(getattr(of.section, key), "text", f"{of.name}.{key}")
        number, matched = quoted(f"%number {name}"), quoted(f"%key {name}")
        joins += (
            f" LEFT JOIN (SELECT {other}::VARCHAR AS {matched}, {of.use(column, 'float?', 'features.numeric')} AS {number} "
            f"FROM {of.name}) ON {own}::VARCHAR = {matched}"
        )
        numbers.append(filled_sql(spec, name, number))
    return numbers, joins


def _joined_from(
    spec: TableFile, sections: dict[str, SectionColumns], main: SectionColumns, name: str
) -> SectionColumns | None:
    """Return the section from which a number of the impressions is joined; None: it is a column of their own, or none."""
    column = column_of(spec, name)
    if column in main.available:
        return None
    joined = (sections[own] for own in ("items", "users") if own in sections)
    return next((section for section in joined if column in section.available), None)


def _hint(
    spec: TableFile, sections: dict[str, SectionColumns], main: SectionColumns, name: str
) -> str:
    """Return what to do about an empty number of the impressions, and where it is from if it is joined."""
    where, of = "", _joined_from(spec, sections, main, name)
    if of is not None:
        key = of.name.removesuffix("s")
        where = f" in [{of.name}] ({of.first_file}) for every {key} of the impressions"
    return f"{where}; features.fill = {{ {name} = ... }} gives empty ones a value"


def _items(
    spec: TableFile, sections: dict[str, SectionColumns], main: SectionColumns
) -> tuple[dict[str, str], str | None]:
    """Return the features that are joined by item, with their columns, and the SELECT of the items.

    If negatives are drawn, all candidate features are joined by item, because a drawn item has no row of its own.
    Without `[items]` only the drawn items' are: the smallest value in the item's events.
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
            f"{feature_sql(spec, columns, name, 'features')} AS {quoted(name)}" for name in own
        ]
        events = sections.get("events", main)
        for name in features.behaviour_numeric:
            column = column_of(spec, name)
            is_own = column in main.available and column in events.available
            if column in columns.available and (spec.negatives is not None or not is_own):
                own[name] = column
                number = columns.use(column, "float?", "features.behaviour_numeric")
                values.append(f"{number}::DOUBLE AS {quoted(name)}")
        return own, f"SELECT {', '.join([f'{item}::VARCHAR AS item', *values])} FROM items"
    if spec.negatives is None or main.section.item is None:
        return {}, None
    own = {name: wanted[name] for name in features.candidate if name != "item"}
    item = main.use(main.section.item, "text", "events.item")
    values = [
        f"min({feature_sql(spec, main, name, 'features.candidate')}) AS {quoted(name)}"
        for name in own
    ]
    select = ", ".join([f"{item}::VARCHAR AS item", *values])
    return {}, f"SELECT {select} FROM events GROUP BY ALL"


def _select(
    spec: TableFile,
    columns: SectionColumns,
    of_item: dict[str, str],
    roles: dict[str, tuple[str, ...]],
    others: Iterable[str] = (),
    joins: str = "",
    user: str | None = None,
) -> str:
    """Return a SELECT of user, time, item, label and the features of `roles` that are not joined by item."""
    section: EventsSection = columns.section
    time = _time(spec.zone, columns, section)
    own = columns.use(section.user, "text", f"{columns.name}.user")
    values = {"user": user or f"{own}::VARCHAR", "time": time}
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
                if name in TIME_FEATURES and name not in spec.features.columns:
                    logger.warning(
                        "features.%s: %r is the column of that name in [%s], not the %s of the time; if that is meant, say so: "
                        "columns = { %s = %s }",
                        *(role, name, columns.name, name, name, json.dumps(column)),
                    )
                values[name] = feature_sql(spec, columns, name, f"features.{role}")
    parts = [f"{value} AS {quoted(name)}" for name, value in values.items()]
    return f"SELECT {', '.join([*parts, *others])} FROM {columns.name}{joins}"


def _time(zone: str, columns: SectionColumns, section: EventsSection) -> str:
    """SQL for the unix seconds of a row of a log in `zone`."""
    if section.is_row_order:
        columns.kinds[ROW_NUMBER] = "row"
        return f"{section.epoch_seconds(zone)} + {quoted(ROW_NUMBER)}"
    kind = "timestamp" if section.unit == "timestamp" else "int"
    time = columns.use(section.time, kind, f"{columns.name}.time")
    if section.unit == "timestamp":
        return time
    start = f"{section.epoch_seconds(zone)} + " if section.epoch else ""
    return f"{start}{seconds(time, section.unit)}"


def _table(spec: TableFile, columns: SectionColumns, nulls: set[str]) -> Table:
    """Return the section's table; call it last, because it needs every column in use."""
    section = columns.section
    checks = []
    if isinstance(section, EventsSection) and not section.is_row_order:
        unit = "s" if section.unit == "timestamp" else section.unit
        checks.append(check_time(section.time, unit, section.epoch))
    if isinstance(section, ImpressionsSection) and section.label is not None:
        checks.append(Check(section.label, f"{quoted(section.label)} IN (0, 1)", "0 or 1"))
    if spec.history is not None and columns.name == "impressions":
        checks += history_sql(spec, columns, "0")[2]
    drop = {
        rule.reason: condition_sql(columns, rule, f"{columns.name}.drop") for rule in section.drop
    }
    checks += columns.checks.values()
    kinds = columns.kinds
    for column in section.explode:
        columns.use(column, kinds.get(column, "text?"), f"{columns.name}.explode")
    if section.names:
        kinds = {name: kinds.get(name, "text?") for name in section.names} | kinds
    return Table(
        section.files,
        kinds,
        section.separator,
        section.list_separator if spec.history is None else spec.history.separator,
        section.explode,
        header=not section.names,
        quote=section.quote,
        escape=section.escape,
        nulls=section.null,
        suspects=EMPTY_ELSEWHERE,
        several={
            column: list_feature(spec, name, nulls)
            for name in spec.lists
            if (column := column_of(spec, name)) in kinds
        },
        single={
            column: name
            for name in (
                *spec.features.behaviour,
                *spec.features.candidate,
                *spec.features.context,
                *spec.features.profile,
            )
            if name not in spec.lists and kinds.get(column := column_of(spec, name)) == "text?"
        },
        again=columns.again,
        absent_are_empty=section.absent == "empty",
        encoding=section.encoding,
        checks=tuple(checks),
        drop=drop,
        key=tuple(getattr(section, key) for key in KEYS.get(columns.name, ())),
        drop_repeats=section.drop_repeats,
        user=quoted(user) if (user := getattr(section, "user", "")) else "",
        zone=spec.zone,
        time_format=getattr(section, "format", ""),
    )
