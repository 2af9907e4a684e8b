"""Numbers of events in a table file: which rows have them, and whether candidates have them, too."""

from scaling.importers.declaration import EventNumber
from scaling.importers.mapping.column_sql import SectionColumns, column_of
from scaling.importers.mapping.table_file import TableFile
from scaling.importers.sql import quoted

__all__ = ["event_number", "event_numbers"]


def event_numbers(
    spec: TableFile, columns: SectionColumns, of_item: dict[str, str], but: tuple[str, ...] = ()
) -> list[str]:
    """Return SQL for the numbers of events that are columns of these rows, without those in `but`.

    Raises:
        UserError: there is no such column, and none of `[items]`.
    """
    found = []
    for name in spec.features.behaviour_numeric:
        column = column_of(spec, name)
        is_own = column in columns.available
        joined = name in of_item and (spec.negatives is not None or not is_own)
        if name in but or joined:
            continue
        number = columns.use(column, "float?", "features.behaviour_numeric")
        found.append(f"{number}::DOUBLE AS {quoted(name)}")
    return found


def event_number(
    spec: TableFile, main: SectionColumns, of_item: dict[str, str], name: str
) -> EventNumber:
    """Return the rule for a number of events; candidates have it, too, if it is known before a click.

    That is so for a number of the items, and for one that `features.numeric` names. Any other may be an outcome.
    """
    of_candidate = name in of_item and main.section.item is not None
    if spec.negatives is None:
        of_candidate = of_candidate or name in spec.features.numeric
    return EventNumber(spec.features.fill.get(name), of_candidate)
