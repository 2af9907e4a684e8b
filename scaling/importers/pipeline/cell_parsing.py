"""How a raw cell becomes a value: which strings are null, and what counts as a number, a string or a time.

A null text of one data set only, such as Taobao's "NULL", belongs in the SELECTs of its module in `datasets`.
"""

from scaling.importers.list_cells import cell_of_list
from scaling.importers.raw_files import NO_COLUMN
from scaling.importers.sql import text

__all__ = ["NULL_TEXTS", "expected_cell", "exploded_entries", "parsed_cell", "real_entry"]


NULL_TEXTS = ("",)  # cells of text files that are null, quoted or not; Parquet has nulls of its own
_EXPECTED = {  # for error messages
    "int": "a whole number",
    "float": "a number of 32 bits",
    "text": "text",
    "cell": "text or a list",
    "timestamp": "a date and time",
}
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "BOOLEAN")
# The whole numbers below these have a real number each; the first one shares its own with the next.
_LARGEST_EXACT = {"DOUBLE": 2**53, "FLOAT": 2**24}
# An entry x of a list of these types as text, as a single cell of them, but that a weight may have a fraction.
_REAL_TEXT = "CASE WHEN isnan(x) THEN NULL WHEN x = trunc(x) THEN TRY_CAST(x AS HUGEINT)::VARCHAR ELSE x::VARCHAR END"
# A text that ends in letters after a time: the engine takes CST, BST and the like for one of several zones.
_ZONE_NAME = r"[0-9 ]([A-Za-z]{2,5})$"
# What stands around the entries of a list in a text.
_AROUND_ENTRIES = " \"'"
_CLEAR_NAMES = ("UTC", "GMT", "AM", "PM")


def expected_cell(kind: str, native: str, time_format: str) -> str:
    """Return the end of the error message for a cell that is not of its kind; see `parsed_cell`."""
    base = kind.removesuffix("?")
    native = native.removesuffix("[]") if base in ("cell", "list") else native
    if base in ("text", "cell", "list") and native in _LARGEST_EXACT:
        return f"a number that {native} holds exactly (below {_LARGEST_EXACT[native]:,}); write ids as whole numbers or text"
    if base == "timestamp" and native == "VARCHAR":
        form = f" as {time_format}" if time_format else ""
        return f"a date and time{form}, with an offset such as +08:00 in place of a zone's abbreviation"
    return _EXPECTED[base]


def parsed_cell(
    raw: str,
    native: str,
    kind: str,
    time_format: str,
    nulls: tuple[str, ...] = (),
    list_separator: str = ",",
) -> tuple[str, str]:
    """Return SQL for a cell's value, and SQL for whether the cell is not of its kind.

    `raw` is SQL for the cell as it is in the file, `native` its type there. The others are those of `declaration.Table`. A NaN of a Parquet file is null, too, and so is the text NaN where a number is expected.
    """
    if kind in NO_COLUMN:
        return raw, "false"
    base, may_be_null = kind.removesuffix("?"), kind.endswith("?")
    if base == "cell" and native.endswith("[]"):
        return _real_list(raw, native)
    if base in ("list", "numbers"):
        return _list(raw, native, base, nulls, list_separator)
    if nulls and native == "VARCHAR":
        raw = f"CASE WHEN {raw} IN ({', '.join(map(text, nulls))}) THEN NULL ELSE {raw} END"
    if native == "VARCHAR" and base == "float":
        raw = f"CASE WHEN isnan(TRY_CAST({raw} AS DOUBLE)) THEN NULL ELSE {raw} END"
    is_real, whole = native in _LARGEST_EXACT, "true"
    if is_real:  # many programs write an integer column with nulls as one of these
        raw = f"CASE WHEN isnan({raw}) THEN NULL ELSE {raw} END"
        whole = f"{raw} = trunc({raw})"
    elif native == "VARCHAR":  # most texts are the number's own, which is told faster than a match
        match = f"regexp_full_match({raw}, ' *[-+]?[0-9]+([.]0*)? *')"
        whole = f"CASE WHEN TRY_CAST({raw} AS BIGINT)::VARCHAR = {raw} THEN true ELSE {match} END"
    elif native.lstrip("U") not in _INTEGERS and base == "int":
        whole = f"TRY_CAST({raw} AS BIGINT) = {raw}"
    if base == "timestamp":
        value, good = _moment(raw, native, time_format)
    elif base == "int":
        # A cast alone would round 2.5 to 3 and accept 1e3, which are not whole numbers in a raw file.
        value = f"TRY_CAST({raw} AS BIGINT)"
        good = f"{value} IS NOT NULL AND {whole}"
    elif base == "float":
        value = f"TRY_CAST({raw} AS DOUBLE)"
        good = f"isfinite(TRY_CAST({value} AS FLOAT))"  # the type of numbers in a store
    elif is_real:
        value = (
            f"CASE WHEN {whole} THEN TRY_CAST({raw} AS HUGEINT)::VARCHAR ELSE {raw}::VARCHAR END"
        )
        good = f"{value} IS NOT NULL AND NOT ({whole} AND abs({raw}) >= {_LARGEST_EXACT[native]})"
    else:  # a text, or a cell of several values
        value = f"{raw}::VARCHAR"
        good = f"{value} IS NOT NULL"
    bad = f"NOT coalesce({good}, false)"
    return value, f"({raw} IS NOT NULL AND {bad})" if may_be_null else f"({raw} IS NULL OR {bad})"


def real_entry(native: str) -> str:
    """Return the type of the entries if `native` is a list of real numbers, else ""."""
    inner = native.removesuffix("[]")
    return inner if inner != native and inner in _LARGEST_EXACT else ""


def exploded_entries(raw: str, native: str, separator: str) -> str:
    """Return SQL for the entries of a list, each of which is a cell: real numbers as such, others as texts."""
    if real_entry(native):
        return f"CASE WHEN {raw} IS NULL THEN [] ELSE {raw} END"
    return _entries(raw, native, separator)


def _list(
    raw: str, native: str, base: str, nulls: tuple[str, ...], separator: str
) -> tuple[str, str]:
    """SQL for the entries of a list as texts, without empty ones, and for whether an id among them is not exact."""
    null = f"IN ({', '.join(map(text, nulls))})"
    if nulls and native == "VARCHAR":
        raw = f"CASE WHEN {raw} {null} THEN NULL ELSE {raw} END"
    found = f"list_filter({_entries(raw, native, separator)}, lambda x: x IS NOT NULL AND x != '')"
    if nulls:  # such an entry keeps its place, because other lists may have one beside it
        found = f"list_transform({found}, lambda x: CASE WHEN x {null} THEN NULL ELSE x END)"
    is_real = base == "list" and real_entry(native)
    return found, _has_inexact(raw, native) if is_real else "false"


def _entries(raw: str, native: str, separator: str) -> str:
    """SQL for the entries of a list as texts; a null, and a text without entries, is an empty list."""
    if real_entry(native):
        found = f"list_transform({raw}, lambda x: {_REAL_TEXT})"
    elif native.endswith("[]"):
        found = f"list_transform({raw}, lambda x: x::VARCHAR)"
    else:
        split = f"string_split(trim({raw}, ' []()'), {text(separator)})"
        found = f"list_transform({split}, lambda x: trim(x, {text(_AROUND_ENTRIES)}))"
    empty = "false" if native.endswith("[]") else f"trim({raw}, ' []()') = ''"
    return f"CASE WHEN {raw} IS NULL OR {empty} THEN [] ELSE {found} END"


def _real_list(raw: str, native: str) -> tuple[str, str]:
    """SQL for the cell of a column of lists, and for whether an entry is not exact."""
    inner = native.removesuffix("[]")
    if inner not in _LARGEST_EXACT:
        return cell_of_list(raw), "false"
    return (
        cell_of_list(f"list_transform({raw}, lambda x: {_REAL_TEXT})"),
        _has_inexact(raw, native),
    )


def _has_inexact(raw: str, native: str) -> str:
    """SQL for whether a list of real numbers has whole ones that are not exact."""
    largest = _LARGEST_EXACT[real_entry(native)]
    large = f"list_filter({raw}, lambda x: x = trunc(x) AND abs(x) >= {largest} AND isfinite(x))"
    return f"coalesce(len({large}) > 0, false)"


def _moment(raw: str, native: str, time_format: str) -> tuple[str, str]:
    """SQL for the unix seconds of a timestamp, and for whether it is one."""
    is_text = native == "VARCHAR"
    is_number = native.lstrip("U") in _INTEGERS
    moment = raw
    if time_format and (is_text or is_number):
        moment = f"try_strptime({raw}::VARCHAR, {text(time_format)})"
    value = f"epoch_us(TRY_CAST({moment} AS TIMESTAMPTZ)) // 1000000"
    good = f"{value} IS NOT NULL"
    if is_text and (not time_format or "%Z" in time_format):
        name = f"upper(regexp_extract({raw}, {text(_ZONE_NAME)}, 1))"
        good += f" AND {name} IN ('', {', '.join(map(text, _CLEAR_NAMES))})"
    return value, good
