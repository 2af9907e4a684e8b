"""How a raw cell becomes a value: which strings are null, and what counts as a number, a string or a time.

A null text of one data set only, such as Taobao's "NULL", belongs in the SELECTs of its module in `datasets`.
"""

from scaling.importers.sql import text

__all__ = ["EXPECTED_KINDS", "NULL_TEXTS", "parsed_cell"]


NULL_TEXTS = ("",)  # cells of text files that are null, quoted or not; Parquet has nulls of its own
EXPECTED_KINDS = {  # for error messages
    "int": "a whole number",
    "float": "a number of 32 bits",
    "text": "text",
    "timestamp": "a date and time",
}
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "BOOLEAN")


def parsed_cell(raw: str, native: str, kind: str, time_format: str) -> tuple[str, str]:
    """Return SQL for a cell's value, and SQL for whether the cell is not of its kind.

    `raw` is SQL for the cell as it is in the file, `native` its type there. `kind` and `time_format` are those of
    `declaration.Table`. A NaN of a Parquet file is null, too.
    """
    if kind == "file":
        return raw, "false"
    base, may_be_null = kind.removesuffix("?"), kind.endswith("?")
    is_real, whole = native in ("FLOAT", "DOUBLE"), "true"
    if is_real:  # many programs write an integer column with nulls as one of these
        raw = f"CASE WHEN isnan({raw}) THEN NULL ELSE {raw} END"
        whole = f"{raw} = trunc({raw})"
    elif native == "VARCHAR":
        whole = f"regexp_full_match({raw}, ' *[-+]?[0-9]+ *')"
    elif native.lstrip("U") not in _INTEGERS and base == "int":
        whole = f"TRY_CAST({raw} AS BIGINT) = {raw}"
    if base == "timestamp":
        is_text = time_format and native == "VARCHAR"
        moment = f"try_strptime({raw}, {text(time_format)})" if is_text else raw
        value = f"epoch_us(TRY_CAST({moment} AS TIMESTAMPTZ)) // 1000000"
        good = f"{value} IS NOT NULL"
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
        good = f"{value} IS NOT NULL"
    else:
        value = f"{raw}::VARCHAR"
        good = f"{value} IS NOT NULL"
    bad = f"NOT coalesce({good}, false)"
    return value, f"({raw} IS NOT NULL AND {bad})" if may_be_null else f"({raw} IS NULL OR {bad})"
