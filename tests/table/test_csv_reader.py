"""Reading a CSV: the exact values that were written, or one line that says where and why not."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.table import read_table, require_columns
from scaling.errors import UserError


@pytest.fixture
def read(tmp_path):
    def call(content):
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path)

    return call


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2.5\n",
        "\ufeffa,b\n1,2.5\n",
        "a,b\r\n1,2.5\r\n",
        "a,b\r1,2.5\r",
        'a,"b"\n"1","2.5"\n',
        "a, b\n1, 2.5\n",
        "\na,b\n\n1,2.5\n\n",
        "a,b\n1,2.5",
        "a,b\n+1,.25e1\n",
    ],
)
def test_one_table_in_several_spellings(read, content):
    table = read(content)
    assert table.to_dict("list") == {"a": [1], "b": [2.5]}
    assert table.dtypes.tolist() == [np.int64, np.float64]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2,\n", "t.csv: line 2 has 3 fields, the header 2: .* remove a comma at its end"),
        ("a,b\n1,2\n3\n", "t.csv: line 3 has 1 field, the header 2: column b has none"),
        ("a,b\n1,2\n3,0,5\n", "t.csv: line 3 has 3 fields, the header 2: .* a decimal comma"),
        ("a,b,\n1,2,\n", "t.csv: line 1: column 3 has no name"),
        (",a\n0,1\n", r"t.csv: line 1: column 1 has no name; .* to_csv\(index=False\)"),
        ("a,b, a\n1,2,3\n", "t.csv: line 1: columns 1 and 3 are both named a; rename one"),
        ("a;b\n1;2,5\n", "t.csv: line 1: fields are separated by semicolons, expected commas"),
        ("a\tb\n1\t2\n", "t.csv: line 1: fields are separated by tabs, expected commas"),
        ("a|b\n1|2\n", "t.csv: line 1: fields are separated by vertical bars"),
        ("a  b\n1 2\n", "t.csv: line 1: fields are separated by spaces"),
        ('a,b\n1,"0,5"\n', "t.csv: line 2, column b: '0,5' is a number with a comma"),
        ('a,b\n1,"1,234,567"\n', "t.csv: line 2, column b: '1,234,567' is a number with a comma"),
        ('"a";"b"\n"1,5";"2"\n', "t.csv: line 1: .* fields are separated by semicolons, expected commas"),
        ('a,b\n"1"\t"2"\n', "t.csv: line 2: .* fields are separated by tabs, expected commas"),
        ("a,b\n1,2\n3;4\n", "t.csv: line 3 has 1 field, the header 2: column b has none"),
        ("a,b\n1,000,2\n", "t.csv: line 2 has 3 fields, the header 2"),
        ("a,b\n", "t.csv: the table has no row"),
        ("a,b", "t.csv: the table has no row"),
        ("\n \n", "t.csv: not a CSV table: it is empty"),
        ("a,b\n1;2,5\n", "t.csv: line 2, column a: '1;2' holds 2 numbers; write commas between"),
        ("a,b\n1,1e400\n", "t.csv: line 2, column b: 1e400 is too large for a number"),
        ("a,b\n1,1e-400\n", "t.csv: line 2, column b: 1e-400 is too small for a number"),
        ('a,b\n1,"2\n3,4"\n', "t.csv: line 2: not a CSV table: a quote is not closed on its line"),
        ("a,b\n1,2\n3,\u00e9\n".encode("latin-1"), "t.csv: line 3, character 3: byte 0xe9 is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "t.csv: not UTF-8 but UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "t.csv: line 1: not a CSV table: it holds a NUL"),
        ("a,b\n1,2\n,\n", "t.csv: line 3: ',' holds no value, expected a run; remove the line"),
        ("a,b\n1,2\n , \n3,4\n", "t.csv: line 3: .* holds no value, expected a run"),
        ("# mine\na,b\n1,2\n", "t.csv: line 1: '# mine' is a comment, expected the names of the columns; remove it"),
        ("# mine, old, bad\na,b\n1,2\n", "t.csv: line 1: .* is a comment, expected the names of the columns"),
        ("a,b\n1,2\n# end\n", "t.csv: line 3: '# end' is a comment, expected 2 fields; remove it"),
        (b"\x1f\x8b\x08\x00", "t.csv: not a CSV table: it is compressed"),
    ],
)  # fmt: skip
def test_another_dialect_is_one_line_that_names_the_place(read, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "cell", ["1.2M", "3e5 tokens", "1 234", "1_234", "1'234", "0x10", "12%", "\u0661\u0662", "-", "1.2.3"]
)  # fmt: skip
def test_a_cell_that_is_no_plain_number_is_text_and_no_size(read, cell):
    table = read(f"a,b\n1,2\n3,{cell}\n")
    assert table["b"].tolist() == ["2", cell]
    with pytest.raises(
        UserError, match=r"t.csv: column b holds .* in line 3, expected numbers; wr"
    ):
        require_columns(table, ["a", "b"])


@pytest.mark.parametrize("whole", [2**53 + 1, 2**63 - 1, -(2**63)])
def test_whole_numbers_are_exact(read, whole):
    assert read(f"a\n{whole}\n1\n")["a"].tolist() == [whole, 1]


@pytest.mark.parametrize("whole", [2**63, 2**64, 10**19, 10**20, 3 * 10**200])
def test_larger_whole_numbers_are_floats(read, whole):
    table = read(f"a,b\n{whole},1\n1,2\n")
    assert table["a"].tolist() == [float(whole), 1.0]
    require_columns(table, ["a", "b"])


def test_missing_and_infinite_cells(read):
    table = read("a,b,c\n1,,x\nNaN,inf,\n")
    np.testing.assert_array_equal(table[["a", "b"]], [[1, np.nan], [np.nan, np.inf]])
    assert table["c"].isna().tolist() == [False, True]


def test_a_signature_that_looks_like_a_number_is_a_name(read):
    assert read("signature,a\n1234e567,1\n12,2\n")["signature"].tolist() == ["1234e567", "12"]


def test_a_name_may_begin_as_a_comment_does(read):
    assert list(read("# a,b\n1,2\n").columns) == ["# a", "b"]


def test_a_column_may_have_missing_values_only_in_a_table_of_one(read):
    assert read('a\n""\n1\n')["a"].isna().tolist() == [True, False]


def test_truth_values_are_no_numbers(read):
    table = read("a,b\nTrue,1\nfalse,2\n")
    assert table["a"].tolist() == [True, False]
    with pytest.raises(UserError, match="column a holds"):
        require_columns(table, ["a", "b"])


def test_rows_are_named_by_lines_of_the_file(read):
    table = read("a,b\n\n1,2\n3,4\n")
    assert table.index.tolist() == [3, 4]


NUMBERS = st.one_of(
    st.integers(-(10**22), 10**22), st.floats(allow_nan=False, allow_infinity=False)
)
TEXTS = st.text(st.sampled_from("abc xyz-_.%\u00e9"), min_size=1, max_size=6).filter(
    lambda text: text.strip() == text
)
CELLS = st.one_of(
    st.lists(NUMBERS, min_size=3, max_size=3), st.lists(TEXTS, min_size=3, max_size=3)
)


def spelt(value, decimal, thousands, unit):
    if isinstance(value, str):
        return value
    text = f"{value:,}" if thousands else str(value)
    return text.translate(str.maketrans({",": thousands or ",", ".": decimal})) + unit


@settings(max_examples=400, deadline=None)
@given(
    columns=st.lists(CELLS, min_size=1, max_size=4),
    delimiter=st.sampled_from(",,,;\t| "),
    decimal=st.sampled_from("..,"),
    thousands=st.sampled_from(["", "", ",", "'", " ", "\u00a0", "_"]),
    unit=st.sampled_from(["", "", "", "M", " tokens", "%"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n", "\r", ",\n", "\n\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"]),
)  # fmt: skip
def test_a_table_of_any_dialect_keeps_its_values_or_is_refused(
    tmp_path_factory, columns, delimiter, decimal, thousands, unit, quoting, end, encoding
):
    """A number may be refused as text when it is used, but no column holds other numbers than were written."""
    names = [f"c{i}" for i in range(len(columns))]
    file = io.StringIO()
    # Python 3.13 refuses to end lines with a delimiter, which other programs do
    written = "\x1e" if delimiter in end else end
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=written)
    writer.writerow(names)
    writer.writerows(
        [[spelt(v, decimal, thousands, unit) for v in row] for row in zip(*columns, strict=True)]
    )
    path = tmp_path_factory.mktemp("dialect") / "t.csv"
    path.write_bytes(file.getvalue().replace(written, end).encode(encoding))
    try:
        table = read_table(path)
    except UserError:
        return
    assert list(table.columns) == names
    for name, values in zip(names, columns, strict=True):
        if pd.api.types.is_numeric_dtype(table[name]):
            assert table[name].tolist() == [
                float(v) if table[name].dtype == float else v for v in values
            ]
        elif all(isinstance(v, str) for v in values):
            assert table[name].tolist() == values
