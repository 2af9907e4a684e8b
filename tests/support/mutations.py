"""Changes of valid files: of their bytes, and of the values and keys of their JSON, TOML, CSV and .npy structure."""

import ast
import copy
import json
import re
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

__all__ = [
    "mutate_bytes",
    "mutate_cells",
    "mutate_json",
    "mutate_lines_of_json",
    "mutate_npy",
    "mutate_parquet",
    "mutate_toml",
    "strange_toml_value",
]

ESCAPE = "\x1b]0;pwned\x07\x1b[2J"
_TEXTS = (
    *("", " ", "a" * 5000, "nan", "inf", "1", "-1", "1e400", "true", "null", ".", "..", "../../x", "/x", "-", "--help", "a/b"),
    *("a\nb", "a\tb", "a\x00b", ESCAPE, "\u202e", "\ufeff", "é", "SUAN-9", "all", "<img src=x>", "'", '"', "a,b", "\\", "%s", "{0}"),
)  # fmt: skip
_RAW_JSON = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "5e-324", "0", "-0.0", "-1", "1", "2", "0.5", "1.5", "-1e-9"),
    *("2147483648", "9223372036854775807", "9223372036854775808", "18446744073709551616", "1" + "0" * 30, "9" * 400, "9" * 5000),
    *("true", "false", "null", "[]", "{}", "[[]]", "[null]", "[1]", '{"a": 1}', '"\\ud800"', '"\\u0000"', '"\\u001b[2J"'),
    *("[" * 100_000, "[" * 70 + "]" * 70, "[" * 2000 + "]" * 2000, '{"a":' * 3000 + "1" + "}" * 3000, "01", "1.", "'a'", ""),
)  # fmt: skip
_RAW_TOML = (
    *("nan", "inf", "-inf", "1e999", "1e308", "5e-324", "0", "-0.0", "-1", "1", "2", "0.5", "1.5", "2147483648", "1000000", "1000000000"),
    *("9223372036854775807", "9223372036854775808", "9" * 400, "9" * 5000, "true", "false", "[]", "{}", "[[]]", "[1]", '["a"]', "{a = 1}"),
    *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "0x7fffffff", "1_000", '"\\u001b[2J"', '"\\u0000"', "'''a\nb'''", '"all"', '["all"]'),
    *("[" * 20_000 + "]" * 20_000, "[" * 70 + "]" * 70, "{a = " * 300 + "1" + "}" * 300, ".".join("a" * 3000), "[1, 1]", "[1, 2, 3]", "", "x"),
    *('"SUAN-9"', '"LightSUAN-0"', '["SUAN-0", "SUAN-0"]', '"din"', '["suan", "lightsuan"]', "[64, 128]", '["request"]', '"stretch"', '"recent"'),
)  # fmt: skip


def mutate_bytes(rng: Random, content: bytes) -> bytes:
    """Flip, replace, insert, remove, repeat or cut a few bytes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 8, 64)))
        match rng.randrange(8):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.randrange(256)
            case 2:
                data[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
            case 3:
                del data[at:end]
            case 4:
                data[at:at] = data[at:end] * rng.choice((1, 2, 100))
            case 5:
                del data[at:]
            case 6:
                data[at:end] = rng.choice(
                    (
                        b"\0",
                        b"\xff\xfe",
                        b"\n",
                        b"\r",
                        b'"',
                        b",",
                        b"-1",
                        b"9" * 400,
                        b"1e999",
                        b"nan",
                        b"\x1b[2J",
                    )
                )
            case 7:
                other = rng.randrange(len(data) + 1)
                data[at:end] = data[other : other + end - at]
    return bytes(data)


def mutate_json(rng: Random, content: bytes) -> bytes:
    """Change a value or a key of a JSON document, or its bytes."""
    if rng.random() < 0.25:
        return mutate_bytes(rng, content)
    document, raw = json.loads(content), []
    for _ in range(rng.choice((1, 1, 1, 2))):
        _change_tree(rng, document, raw)
    text = json.dumps(document, indent=rng.choice((None, 2)))
    for number, token in enumerate(raw):
        text = text.replace(f'"@raw{number}@"', token)
    return text.encode()


def mutate_lines_of_json(rng: Random, content: bytes) -> bytes:
    """Change one line of a file with a JSON document per line, or the order of its lines."""
    lines = content.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    match rng.randrange(8):
        case 0:
            lines.insert(at, rng.choice(lines))
        case 1:
            del lines[at]
        case 2:
            return mutate_bytes(rng, content)
        case _:
            lines[at] = mutate_json(rng, lines[at]).replace(b"\n", b" ") + b"\n"
    return b"".join(lines)


def _change_tree(rng: Random, document: Any, raw: list[str]) -> None:
    places = list(_places(document))
    if not places:
        return
    holder, key = rng.choice(places)
    value = holder[key]
    match rng.randrange(9):
        case 0 | 1 | 2:
            raw.append(rng.choice(_RAW_JSON))
            holder[key] = f"@raw{len(raw) - 1}@"
        case 3:
            holder[key] = rng.choice(_TEXTS)
        case 4:
            del holder[key]
        case 5 if isinstance(holder, dict):
            name = rng.choice((*_TEXTS, key + "x", key.upper()))
            holder[name] = holder.pop(key) if rng.random() < 0.7 else value
        case 6:
            other, place = rng.choice(places)
            if place in other if isinstance(other, dict) else place < len(other):
                holder[key] = copy.deepcopy(other[place])
        case 7 if isinstance(value, int | float):
            holder[key] = rng.choice(
                (value + 1, -value, value * 10, value / 3, value * 1e6, str(value), [value])
            )
        case 8 if isinstance(value, list) and value:
            value.append(copy.deepcopy(rng.choice(value)))
        case _:
            holder[key] = rng.choice((None, True, [], {}, 0, -1, "x"))


def _places(value: Any) -> Any:
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


def strange_toml_value(rng: Random) -> str:
    """Return a TOML value that few keys expect."""
    return rng.choice(_RAW_TOML) if rng.random() < 0.8 else json.dumps(rng.choice(_TEXTS))


def mutate_toml(rng: Random, content: bytes, lines_to_add: tuple[str, ...] = ()) -> bytes:
    """Change a value, a key, a header or the order of lines of a TOML file, or its bytes."""
    lines = content.decode().splitlines()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(lines))
        key, equals, _ = lines[at].partition("=")
        match rng.randrange(12):
            case 0:
                return mutate_bytes(rng, "\n".join(lines).encode() + b"\n")
            case 1:
                del lines[at]
            case 2:
                lines.insert(at, rng.choice(lines))
            case 3 if equals:
                lines[at] = (
                    f"{rng.choice((key.strip() + 'x', json.dumps(rng.choice(_TEXTS)), '.'.join('a' * 3000)))} = 1"
                )
            case 4:
                lines[at] = rng.choice(
                    (
                        "[",
                        "[[study]]",
                        "[a.b.c]",
                        "x",
                        f"[{'.'.join('a' * 50)}]",
                        '["\\u001b"]',
                        "# é",
                    )
                )
            case 5 | 6 if lines_to_add:
                lines += rng.choice(lines_to_add).splitlines()
            case 7:
                found = re.findall(r"-?\d+(?:\.\d+)?", lines[at])
                if found:
                    old = rng.choice(found)
                    lines[at] = lines[at].replace(
                        old,
                        rng.choice(("0", "-1", old + "0", old + "000000", "0.5", "1e30", "nan")),
                        1,
                    )
            case _ if equals:
                lines[at] = f"{key}= {strange_toml_value(rng)}"
        if not lines:
            return b""
    return "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"


def mutate_cells(rng: Random, content: bytes, separator: bytes = b",") -> bytes:
    """Change cells, columns or lines of a table of text, or its bytes."""
    lines = content.split(b"\n")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        cells = lines[at].split(separator)
        cell = rng.randrange(len(cells))
        match rng.randrange(14):
            case 0:
                return mutate_bytes(rng, b"\n".join(lines))
            case 1:
                del cells[cell]
            case 2:
                cells.insert(cell, rng.choice(cells))
            case 3:
                lines.insert(at, rng.choice(lines))
            case 4:
                lines[at] = b""
            case 5:
                cells[cell] = b'"' + cells[cell] + rng.choice((b'"', b""))
            case 6:
                other = rng.randrange(len(cells))
                cells[cell], cells[other] = cells[other], cells[cell]
            case 7:
                cells[cell] = re.sub(
                    rb"\d", lambda found: str(rng.randrange(10)).encode(), cells[cell]
                )
            case 8:
                cells[cell] = (
                    rng.choice((b" ", b"-", b"+"))
                    + cells[cell]
                    + rng.choice((b" ", b"0", b"e5", b".0", b","))
                )
            case _:
                cells[cell] = rng.choice(_CELLS)
        if at < len(lines) and lines[at]:
            lines[at] = separator.join(cells)
    return b"\n".join(lines)


_CELLS = (
    *(b"", b"nan", b"NaN", b"inf", b"-inf", b"NA", b"null", b"1e999", b"1e308", b"1e-400", b"-1", b"0", b"-0", b"1.5", b"1,5", b"0x10"),
    *(b"9" * 19, b"9" * 25, b"9" * 400, b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"4294967296", b"1" + b"0" * 300),
    *(b"a", "é".encode(), b"\xff", b"\x00", b"\x1b[2J", b'"', b'""', b"'", b"=1+1", b"#", b"a" * 5000, b"True", b"1_000", b"\xe2\x88\x921", b"1;2"),
    *(b"2020-01-01", b"12:00", b"11/31/2019 9:05:58 AM", b"9999-12-31", b"18446744073709551616", b"[1,2]", b"{}", b"a b", b"\t", b"|", b"::"),
)  # fmt: skip


def mutate_parquet(rng: Random, content: bytes) -> bytes:
    """Change values, types, names or rows of a Parquet file, or its bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, content)
    import duckdb

    with TemporaryDirectory() as folder, duckdb.connect(config={"threads": 1}) as database:
        old, new = Path(folder) / "old.parquet", Path(folder) / "new.parquet"
        old.write_bytes(content)
        database.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet('{old}')")
        for _ in range(rng.choice((1, 1, 2))):
            columns = [row[0] for row in database.execute("DESCRIBE t").fetchall()]
            with suppress(duckdb.Error):  # a value that the type does not hold
                database.execute(_change_of_table(rng, columns))
        database.execute(f"COPY t TO '{new}' (FORMAT parquet)")
        return new.read_bytes()


def _change_of_table(rng: Random, columns: list[str]) -> str:
    """Return a statement that changes the table `t`."""
    name, other = f'"{rng.choice(columns)}"', f'"{rng.choice(columns)}"'
    row = rng.randrange(60)
    rows = rng.choice((f"rowid = {row}", f"rowid = {row}", f"rowid % 7 = {row % 7}", "true"))
    match rng.randrange(10):
        case 0 | 1 | 2:
            return f"UPDATE t SET {name} = {rng.choice(_SQL_VALUES)} WHERE {rows}"
        case 3 | 4 | 5:
            return f"ALTER TABLE t ALTER {name} TYPE {rng.choice(_SQL_TYPES)}"
        case 6:
            value = rng.choice(_SQL_VALUES)
            return f"CREATE OR REPLACE TABLE t AS SELECT * REPLACE (CASE WHEN {rows} THEN {value} END AS {name}) FROM t"
        case 7:
            return f"ALTER TABLE t {rng.choice((f'DROP {name}', f'RENAME {name} TO x', 'ADD COLUMN more INTEGER'))}"
        case 8:
            return rng.choice(
                (f"DELETE FROM t WHERE {rows}", f"INSERT INTO t SELECT * FROM t WHERE {rows}")
            )
        case _:
            wrapped = rng.choice((f"[{name}]", f"{{'a': {name}}}", f"MAP {{'a': {name}}}", other))
            return f"CREATE OR REPLACE TABLE t AS SELECT * REPLACE ({wrapped} AS {name}) FROM t"


_SQL_TYPES = (
    *("VARCHAR", "BLOB", "DOUBLE", "FLOAT", "DECIMAL(38, 10)", "DECIMAL(9, 0)", "BOOLEAN", "TINYINT", "BIGINT", "UBIGINT", "HUGEINT", "DATE"),
    *("TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_NS", "TIMESTAMP_S", "TIME", "INTERVAL", "UUID", "BIT", "JSON", "INTEGER[]", "VARCHAR[]", "ENUM ('a', '1')"),
)  # fmt: skip
_SQL_VALUES = (
    *("NULL", "-1", "0", "1", "1.5", "255", "65536", "4294967296", "9223372036854775807", "-9223372036854775808", "18446744073709551615"),
    *("1e308", "'nan'", "'inf'", "'-inf'", "5e-324", "''", "' '", "'a'", "repeat('a', 5000)", "chr(27) || '[2J'", "chr(0)", "'9999-12-31'"),
    *("'1969-12-31 23:59:59'", "'infinity'::TIMESTAMP", "DATE '290000-01-01'", "[1, NULL]", "'é'", "'\\xff'::BLOB", "9::HUGEINT << 100", "true", "'[1,2]'"),
)  # fmt: skip


def mutate_npy(rng: Random, content: bytes) -> bytes:
    """Change the header of a .npy file, its values or its bytes."""
    start = 10 + int.from_bytes(content[8:10], "little")
    head, body = content[:start], content[start:]
    match rng.randrange(8):
        case 0 | 1:
            at = rng.randrange(start)
            return (
                head[:at]
                + bytes([rng.choice((rng.randrange(256), head[at] ^ 1, 40, 41, 39, 91, 123, 0))])
                + head[at + 1 :]
                + body
            )
        case 2 | 3:
            fields = ast.literal_eval(head[10:].decode("latin-1"))
            key = rng.choice(("descr", "shape", "fortran_order", "x"))
            value = rng.choice(
                _SHAPES if key == "shape" else _DESCRS if key == "descr" else ("True", "1", "None")
            )
            items = [f"'{k}': {v!r}" for k, v in fields.items() if k != key] + [f"'{key}': {value}"]
            text = ("{" + ", ".join(items) + ", }").encode()
            return head[:8] + (len(text) + 1).to_bytes(2, "little") + text + b"\n" + body
        case 4:
            return head + mutate_bytes(rng, body)
        case 5:
            size = int(re.search(rb"[<>|]\w(\d+)", head)[1])
            at = rng.randrange(max(1, len(body) // size)) * size
            value = rng.choice(
                (b"\xff" * size, b"\0" * size, b"\xff" * (size - 1) + b"\x7f", rng.randbytes(size))
            )
            return head + body[:at] + value + body[at + size :]
        case 6:
            return head + rng.choice((body[: len(body) // 2], body + body, b"", body + b"\0"))
    return mutate_bytes(rng, content)


_SHAPES = (
    *("()", "(0,)", "(-1,)", "(10**18,)", "(9223372036854775807,)", "(" + "9" * 400 + ",)", "(1, 1)", "(True,)", "(1.5,)", "('a',)", "[1]", "1", "None"),
    *("(" * 90 + ")" * 90, "(" * 5000, "(9,) * 3", "(1,", "(" + "1," * 40 + ")"),
)  # fmt: skip
_DESCRS = (
    *("'<i8'", "'>i8'", "'<i4'", "'<f8'", "'<f4'", "'<f2'", "'|O'", "'|V0'", "'<U0'", "'|S1'", "'<U9999999999'", "'<M8[ns]'", "'<c16'", "'x'", "''", "1"),
    *("None", "[('a', '<i8')]", "('<f4', (1000000000,))", "('<i8', (2,))", "[]", "'<i8" + "x" * 300 + "'", "'<f16'", "'|b1'", "'i8,i8'", "{}"),
)  # fmt: skip
