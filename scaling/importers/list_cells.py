"""SQL for the cells of features with several values: a cell is one text, which is split where its values are needed.

Rows are grouped and joined by these texts, which is several times as fast as by lists.
"""

from scaling.importers.declaration import Check, ListFeature
from scaling.importers.sql import text

__all__ = [
    "cell_of_list",
    "cell_values",
    "cell_weights",
    "is_value",
    "weight_check",
    "weighted_cell",
]


# In front of each entry of a real list, and between the values and the weights; no text of a log has them.
_ENTRY, _WEIGHTS = "chr(31)", "chr(30)"
_SYNTAX = r"""[\[("']"""
_IN_BRACKETS = r"(?s)\s*(\[.*\]|\(.*\))\s*"


def cell_of_list(values: str) -> str:
    """Return SQL for the cell of a list; null entries are kept as empty ones, because weights may stand beside them."""
    entries = f"list_transform({values}, lambda x: {_ENTRY} || coalesce(x::VARCHAR, ''))"
    return f"array_to_string({entries}, '')"


def weighted_cell(values: str, weights: str) -> str:
    """Return SQL for the cell of two columns of lists: values and weights."""
    both = f"coalesce({values}, '') || {_WEIGHTS} || coalesce({weights}, '')"
    return f"CASE WHEN coalesce({values}, {weights}) IS NULL THEN NULL ELSE {both} END"


def cell_values(cell: str, feature: ListFeature) -> str:
    """Return SQL for the list of a cell's values as texts, in order; some may be empty, null or equal."""
    if not feature.weighted:
        return _entries(cell, feature.separator)
    mark = feature.weight_separator
    if not mark:
        return _entries(f"split_part({cell}, {_WEIGHTS}, 1)", feature.separator)
    value = f"trim(x[:{_last(mark)} - 1])"
    choice = f"CASE WHEN contains(x, {text(mark)}) THEN {value} ELSE x END"
    return f"list_transform({_entries(cell, feature.separator)}, lambda x: {choice})"


def cell_weights(cell: str, feature: ListFeature) -> str:
    """Return SQL for the list of a cell's weights, DOUBLE, null where there is none."""
    if not feature.weight_separator:
        return _numbers(f"split_part({cell}, {_WEIGHTS}, 2)", feature)
    mark = feature.weight_separator
    weight = f"TRY_CAST(x[{_last(mark)} + {len(mark)}:] AS DOUBLE)"
    choice = f"CASE WHEN contains(x, {text(mark)}) THEN {weight} END"
    return f"list_transform({_entries(cell, feature.separator)}, lambda x: {choice})"


def is_value(entry: str, feature: ListFeature) -> str:
    """Return SQL for whether an entry is a value at all."""
    return f"coalesce({entry} NOT IN ({', '.join(map(text, ('', *feature.nulls)))}), false)"


def weight_check(column: str, values: str, weights: str, feature: ListFeature) -> Check:
    """Return the check that each value of a weighted cell has a weight; `column` is the one that has the weights.

    `values` and `weights` are SQL for two columns, or for the same one if the weights stand in the entries.
    """
    of_values, of_weights = cell_values(values, feature), cell_weights(values, feature)
    if not feature.weight_separator:
        of_values, of_weights = _entries(values, feature.separator), _numbers(weights, feature)

    def good(weight: str) -> str:
        number = f"TRY_CAST({weight} AS FLOAT)"
        of_mean = f" AND {number} > 0" if feature.pooling == "mean" else ""
        return f"coalesce(isfinite({number}){of_mean}, false)"

    bad = f"{is_value('p[1]', feature)} AND NOT {good('p[2]')}"
    wrong = f"len(list_filter(list_zip({of_values}, {of_weights}), lambda p: {bad})) = 0"
    # most rows have a good weight everywhere, which is found in half of the time
    all_good = f"len(list_filter({of_weights}, lambda w: NOT {good('w')})) = 0"
    expected = "a finite weight" if feature.pooling == "sum" else "a finite weight above 0"
    beside = "" if feature.weight_separator else f" of {values.strip(chr(34))}, and as many entries"
    holds = (
        f"len({of_values}) = len({of_weights}) AND CASE WHEN {all_good} THEN true ELSE {wrong} END"
    )
    return Check(column, holds, f"{expected} for each of the values{beside}")


def _numbers(cell: str, feature: ListFeature) -> str:
    """SQL for the entries of a cell as numbers, DOUBLE, null where an entry is none."""
    return f"list_transform({_entries(cell, feature.separator)}, lambda x: TRY_CAST(x AS DOUBLE))"


def _last(mark: str) -> str:
    """SQL for the place of the last `mark` in x."""
    return f"(len(x) - instr(reverse(x), {text(mark[::-1])}) - {len(mark)} + 2)"


def _entries(cell: str, separator: str) -> str:
    """SQL for the entries of a cell, without what stands around the list and around each entry."""
    bare = f"trim({cell})"
    inner = f"CASE WHEN regexp_full_match({cell}, {text(_IN_BRACKETS)}) THEN {bare}[2:-2] ELSE {cell} END"
    # Python's lists, whose quotes may contain the separator; those of JSON are read as such
    one = separator if separator not in "[]^\\-" else f"\\{separator}"
    pattern = rf"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^{one}]+)"""
    quotes = f"""regexp_full_match({cell}, '(?s)\\s*[\\[(]\\s*["''].*')"""
    unescaped = r"regexp_replace(x, '\\(.)', '\1', 'g')"
    of_quotes = f"list_transform(regexp_extract_all({inner}, {text(pattern)}, 1), lambda x: {_unquoted(unescaped)})"
    split = f"list_transform(string_split({inner}, {text(separator)}), lambda x: {_unquoted('x')})"
    simple = f"list_transform(string_split({cell}, {text(separator)}), lambda x: trim(x))"
    quoted_branch = f"WHEN {quotes} THEN {of_quotes} " if len(separator) == 1 else ""
    return (
        f"CASE WHEN starts_with({cell}, {_ENTRY}) THEN string_split({cell}[2:], {_ENTRY}) "
        f"WHEN {cell} IS NULL OR {bare} = '' THEN []::VARCHAR[] "
        # most logs have no brackets and quotes, which take several times as long
        f"WHEN NOT regexp_matches({cell}, {text(_SYNTAX)}) THEN {simple} "
        f"WHEN trim({inner}) = '' THEN []::VARCHAR[] "
        f"WHEN starts_with({bare}, '[') AND json_valid({cell}) THEN from_json({cell}, '[\"VARCHAR\"]') "
        f"{quoted_branch}ELSE {split} END"
    )


def _unquoted(entry: str) -> str:
    bare = f"trim({entry})"
    return f"""CASE WHEN regexp_full_match({bare}, '(?s)".*"|''.*''') AND len({bare}) > 1 THEN {bare}[2:-2] ELSE {bare} END"""
