"""Any log: CSV or Parquet files of impressions, events, users and items, whose columns a TOML names."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scaling.errors import UserError, nearest
from scaling.importers.datasets.column_mapping import (
    Condition,
    EventsSection,
    FilesSection,
    ImpressionsSection,
    TableFile,
    read_table_file,
)
from scaling.importers.declaration import Check, Log, Negatives, Rows, Table
from scaling.importers.raw_files import column_names, find_files
from scaling.importers.split_options import CommonOptions
from scaling.importers.sql import quoted, text
from scaling.importers.times import check_time, has_summer_time, hour, offset_of, seconds, weekday

__all__ = ["TableOptions", "table"]


OF_TIME = {"hour": hour, "weekday": weekday}
RESERVED = ("user", "time", "label")
NOT_A_POSITIVE = "events that are no positive"


@dataclass(frozen=True)
class TableOptions:
    """None: the TOML says everything."""


@dataclass(frozen=True)
class Place:
    """A section: the columns of its files, and those that are used so far, with their kinds."""

    name: str
    section: Any
    available: tuple[str, ...]
    kinds: dict[str, str] = field(default_factory=dict)

    def use(self, column: str, kind: str, what: str) -> str:
        """Return the column as SQL, and have it read as `kind` unless an earlier use asked for another.

        Raises:
            UserError: no such column.
        """
        if column not in self.available:
            near = nearest(column, self.available)
            if len(self.available) == 1:
                near = f"; are the columns really separated by {self.section.separator!r}?"
            raise UserError(f"{what}: no column {column!r} in {self.section.files[0]}{near}")
        self.kinds.setdefault(column, kind)
        return quoted(column)


def table(raw: Path, options: TableOptions) -> Log:
    """Return the log that the TOML at `raw` (or the only one in that folder) describes.

    Raises:
        UserError: a wrong key, or a column that no file has.
    """
    file, spec = read_table_file(raw)
    places = {
        name: _place(file.parent, name, section)
        for name in ("impressions", "events", "users", "items")
        if (section := getattr(spec, name)) is not None
    }
    _check_names(spec)
    main = places["impressions" if spec.impressions else "events"]
    impressions, events, items = _rows(spec, places, main)
    offset = offset_of(spec.zone)
    split = CommonOptions(
        spec.split.kind, spec.split.test_fraction, spec.split.test_from, spec.split.seed
    )
    drawn = spec.negatives
    users = None
    if "users" in places:
        place = places["users"]
        columns = [
            f"{place.use(_column(spec, name), 'text?', 'features.profile')}::VARCHAR AS {quoted(name)}"
            for name in spec.features.profile
        ]
        user = place.use(place.section.user, "text", "users.user")
        users = f"SELECT {', '.join([f'{user}::VARCHAR AS user', *columns])} FROM users"
    elif spec.features.profile:
        raise UserError(f"{file}: features.profile: there is no section [users] that could hold it")
    return Log(
        tables={name: _table(spec, place) for name, place in places.items()},
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
        utc_offset_seconds=offset,
        negatives=None if drawn is None else Negatives(drawn.per_positive, drawn.draw, drawn.seed),
        facts={"table": asdict(spec)},
    )


def _place(folder: Path, name: str, section: FilesSection) -> Place:
    first = find_files(folder, section.files)[0]
    layout = Table(section.files, {}, section.separator, quote=section.quote)
    return Place(name, section, section.names or tuple(column_names(first, layout)))


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
                raise UserError(f"features.{role}: {name!r} stands twice")
    for name in names:
        if name in RESERVED:
            raise UserError(
                f"features: {name!r} is not a name for a feature; choose another and name its column in features.columns"
            )
    for key in ("columns", "vocabularies", "fill"):
        for name in getattr(features, key):
            if name not in names:
                raise UserError(
                    f"features.{key}.{name}: no feature has this name{nearest(name, names)}"
                )


def _rows(
    spec: TableFile, places: dict[str, Place], main: Place
) -> tuple[Rows, Rows | None, str | None]:
    """Return the impressions, the events where they are other rows, and the SELECT of the items."""
    of_item, items = _items(spec, places, main)
    roles = {"candidate": spec.features.candidate, "context": spec.features.context}
    numbers = [_number(spec, main, name) for name in spec.features.numeric]
    behaviour = {"behaviour": spec.features.behaviour}
    if "impressions" in places and "events" in places:
        impressions = _select(spec, main, of_item, roles, numbers)
        events = _select(spec, places["events"], of_item, behaviour)
        return Rows(impressions), Rows(events), items
    both = _select(spec, main, of_item, {**roles, **behaviour}, numbers)
    if spec.negatives is None or spec.negatives.positive is None:
        return Rows(both), None, items
    positive = _condition(main, spec.negatives.positive, "negatives.positive")
    marked = _select(spec, main, of_item, roles, [*numbers, f"{positive} AS __positive"])
    events = _select(spec, main, of_item, behaviour)
    return Rows(marked, {NOT_A_POSITIVE: "NOT coalesce(__positive, false)"}), Rows(events), items


def _items(
    spec: TableFile, places: dict[str, Place], main: Place
) -> tuple[dict[str, str], str | None]:
    """Return the features that are joined by item, with their columns, and the SELECT of the items.

    Where negatives are drawn, all features of a candidate are: a drawn item has no row of its own. Without [items]
    they are then the least values that the item's events hold.
    """
    place = places.get("items")
    features = spec.features
    wanted = {
        name: _column(spec, name)
        for name in (*features.behaviour, *features.candidate)
        if name != "item"
    }
    if place is not None:
        own = {
            name: column
            for name, column in wanted.items()
            if column in place.available
            and (spec.negatives is not None or column not in main.available)
        }
        item = place.use(place.section.item, "text", "items.item")
        columns = [
            f"{place.use(column, 'text?', 'features')}::VARCHAR AS {quoted(name)}"
            for name, column in own.items()
        ]
        return own, f"SELECT {', '.join([f'{item}::VARCHAR AS item', *columns])} FROM items"
    if spec.negatives is None or main.section.item is None:
        return {}, None
    own = {name: wanted[name] for name in features.candidate if name != "item"}
    item = main.use(main.section.item, "text", "events.item")
    columns = [
        f"min({main.use(column, 'text?', 'features.candidate')}::VARCHAR) AS {quoted(name)}"
        for name, column in own.items()
    ]
    select = ", ".join([f"{item}::VARCHAR AS item", *columns])
    return own, f"SELECT {select} FROM events GROUP BY ALL"


def _select(
    spec: TableFile,
    place: Place,
    of_item: dict[str, str],
    roles: dict[str, tuple[str, ...]],
    others: Iterable[str] = (),
) -> str:
    """SELECT user, time, item, label and the features of `roles` that are not joined by item."""
    section: EventsSection = place.section
    time = place.use(section.time, _time_kind(section), f"{place.name}.time")
    if section.unit != "timestamp":
        time = seconds(time, section.unit)
    user = place.use(section.user, "text", f"{place.name}.user")
    columns = {"user": f"{user}::VARCHAR", "time": time}
    if isinstance(section, ImpressionsSection):
        columns["label"] = _label(place, section)
    if section.item is not None:
        columns["item"] = f"{place.use(section.item, 'text', f'{place.name}.item')}::VARCHAR"
    offset = offset_of(spec.zone)
    for role, names in roles.items():
        for name in names:
            column = _column(spec, name)
            if name in columns or name in of_item:
                continue
            if name in OF_TIME and column not in place.available:
                columns[name] = OF_TIME[name](
                    time, spec.zone if has_summer_time(spec.zone) else offset
                )
            else:
                columns[name] = f"{place.use(column, 'text?', f'features.{role}')}::VARCHAR"
    parts = [f"{value} AS {quoted(name)}" for name, value in columns.items()]
    return f"SELECT {', '.join([*parts, *others])} FROM {place.name}"


def _time_kind(section: EventsSection) -> str:
    return "timestamp" if section.unit == "timestamp" else "int"


def _label(place: Place, section: ImpressionsSection) -> str:
    if section.label is not None:
        return place.use(section.label, "int", "impressions.label")
    assert section.label_when is not None
    return f"coalesce({_condition(place, section.label_when, 'impressions.label_when')}, false)"


def _number(spec: TableFile, place: Place, name: str) -> str:
    fill = spec.features.fill.get(name)
    kind = "float" if fill is None else "float?"
    column = place.use(_column(spec, name), kind, "features.numeric")
    value = column if fill is None else f"coalesce({column}, {fill!r})"
    return f"{value}::DOUBLE AS {quoted(name)}"


def _condition(place: Place, condition: Condition, what: str) -> str:
    """Return a condition as SQL; NULL where a number is asked of what is none."""
    is_number = condition.at_least is not None or condition.below is not None
    column = place.use(condition.column, "float" if is_number else "text?", what)
    if condition.empty is not None:
        return f"{column} IS {'' if condition.empty else 'NOT '}NULL"
    if condition.at_least is not None:
        return f"TRY_CAST({column} AS DOUBLE) >= {condition.at_least!r}"
    if condition.below is not None:
        return f"TRY_CAST({column} AS DOUBLE) < {condition.below!r}"
    options = condition.equals or ()
    words = [text(option) for option in options if isinstance(option, str)]
    numbers = [repr(option) for option in options if not isinstance(option, str)]
    tests = [f"{column}::VARCHAR IN ({', '.join(words)})"] if words else []
    tests += [f"TRY_CAST({column} AS DOUBLE) IN ({', '.join(numbers)})"] if numbers else []
    return f"({' OR '.join(tests) or 'false'})"


def _table(spec: TableFile, place: Place) -> Table:
    """Return the section's table; every use of its columns is known by now."""
    section = place.section
    checks = []
    if isinstance(section, EventsSection):
        checks.append(
            check_time(section.time, "s" if section.unit == "timestamp" else section.unit)
        )
    if isinstance(section, ImpressionsSection) and section.label is not None:
        checks.append(Check(section.label, f"{quoted(section.label)} IN (0, 1)", "0 or 1"))
    drop = {rule.reason: _condition(place, rule, f"{place.name}.drop") for rule in section.drop}
    kinds = place.kinds
    if section.names:
        kinds = {name: place.kinds.get(name, "text?") for name in section.names}
    return Table(
        section.files,
        kinds,
        section.separator,
        header=not section.names,
        quote=section.quote,
        encoding=section.encoding,
        checks=tuple(checks),
        drop=drop,
        key=tuple(getattr(section, key) for key in KEYS.get(place.name, ())),
        drop_repeats=section.drop_repeats,
        zone=spec.zone,
        time_format=getattr(section, "format", ""),
    )


def _column(spec: TableFile, feature: str) -> str:
    return spec.features.columns.get(feature, feature)


KEYS = {"users": ("user",), "items": ("item",)}
