"""A table's columns become numbers and come back; what is not in them is refused by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.columns import (
    Column,
    decode_matrix,
    decode_rows,
    encode_rows,
    encoded_bounds,
    encoded_names,
    immutable_places,
    is_plain,
    learn_columns,
    whole_places,
)
from medward.guard.errors import MedwardError
from medward.guard.named_values import read_table

NUMBER = st.floats(-1e6, 1e6, width=32)
KINDS = {
    "number": st.one_of(NUMBER, st.none()),
    "text": st.one_of(st.text(min_size=1, max_size=5).filter(lambda each: each not in ("True", "False")), st.none()),
    "truth": st.one_of(st.booleans(), st.none()),
}
ROW = {"age": 63, "lactate": 2.5, "sex": "f", "smoker": True, "ward": "ICU"}
TABLE = {
    "age": [63, 40, 51],
    "lactate": [2.5, None, 1.0],
    "sex": ["f", "m", "f"],
    "smoker": [True, False, True],
    "ward": ["ICU", None, "ER"],
}
COLUMNS = learn_columns(read_table(TABLE), immutable=["sex", "lactate"])


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 6))
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5))
    columns = {}
    for at, kind in enumerate(kinds):
        values = draw(st.lists(KINDS[kind], min_size=rows, max_size=rows))
        if all(each is None for each in values):
            values[0] = draw(KINDS[kind].filter(lambda each: each is not None))
        columns[f"{kind}{at}"] = values
    return columns


@given(tables())
def test_a_table_comes_back_from_its_numbers(table):
    columns = learn_columns(read_table(table))
    matrix = encode_rows(table, columns)
    assert matrix.dtype == np.float32
    assert np.isfinite(matrix).all()
    assert matrix.shape == (len(next(iter(table.values()))), len(encoded_names(columns)))
    low, high = encoded_bounds(columns)
    assert (low <= matrix).all()
    assert (matrix <= high).all()
    for name, values in decode_rows(matrix, columns).items():
        back = [None if isinstance(each, float) and np.isnan(each) else each for each in values.tolist()]
        assert back == table[name]
    np.testing.assert_array_equal(encode_rows(decode_rows(matrix, columns), columns), matrix)


@given(st.lists(st.lists(st.floats(-50, 50, width=32), min_size=7, max_size=7), min_size=1, max_size=5))
def test_any_numbers_mean_values_that_the_columns_have(rows):
    """What an attacker sends is read as some row that a client could have sent."""
    decoded = decode_rows(np.array(rows, np.float32), COLUMNS)
    again = encode_rows(decoded, COLUMNS)
    np.testing.assert_array_equal(encode_rows(decode_rows(again, COLUMNS), COLUMNS), again)


def test_what_columns_say_of_their_numbers():
    assert encoded_names(COLUMNS) == ("age", "lactate", "sex", "smoker", "ward", "lactate is missing")
    assert whole_places(COLUMNS) == (0, 2, 3, 4, 5)
    assert immutable_places(COLUMNS) == (1, 2, 5)
    assert encoded_bounds(COLUMNS)[1].tolist() == [np.inf, np.inf, 1, 1, 2, 1]
    assert COLUMNS[1] == Column(name="lactate", missing=True, fill=2.5, immutable=True)
    assert learn_columns(read_table(TABLE), integer=["lactate"])[1].whole
    assert not is_plain(COLUMNS)
    assert is_plain(learn_columns(read_table({"age": [1, 2], "smoker": [True, False]})))
    np.testing.assert_array_equal(
        decode_matrix(np.array([[1, 2, 1], [1, 2, 0]], np.float32), [Column(name="a"), Column(name="b", missing=True)]),
        [[1, np.nan], [1, 2]],
    )


def test_pandas_arrays_and_records_are_one_table():
    frame = pd.DataFrame(TABLE).astype({"age": "Int64", "ward": "string", "sex": "category"})
    expected = encode_rows(TABLE, COLUMNS)
    rows = [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)]
    for given_rows in (frame, rows, frame[list(TABLE)[::-1]]):
        np.testing.assert_array_equal(encode_rows(given_rows, COLUMNS), expected)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sex": "x"}, "column 'sex': 'x' is unknown; it takes f, m"),
        ({"ward": "icu"}, "column 'ward': 'icu' is unknown; it takes ER, ICU or null"),
        ({"age": "63"}, "column 'age': a number is needed, got '63'"),
        ({"age": True}, "column 'age': a number is needed, got True"),
        ({"age": None}, "column 'age': a value is missing in row 0"),
        ({"age": float("inf")}, "column 'age': every number must be finite"),
        ({"age": 1e39}, "column 'age': a number of single precision is needed"),
        ({"smoker": 1}, "column 'smoker': 1.0 is unknown; it takes false, true"),
        ({"ward": ""}, "column 'ward': holds empty texts"),
        ({"sex": 1j}, "column 'sex': needs numbers, texts or truth values, got complex"),
        ({"weight": 80}, "column 'weight' is unknown; the model takes age, lactate, sex, smoker, ward"),
        ({"lactate": ...}, "column 'lactate' is absent; the model takes age, lactate, sex, smoker, ward; send null"),
    ],
)
def test_what_a_row_may_not_be(change, says):
    row = {name: value for name, value in {**ROW, **change}.items() if value is not ...}
    with pytest.raises(MedwardError) as refused:
        encode_rows([row], COLUMNS)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert encode_rows([ROW], COLUMNS).shape == (1, 6)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([None, None], "has no value in any row"),
        (["a", 1], "mixes numbers and texts"),
        (["True", "False"], "holds the texts False, True; give truth values"),
        (pd.to_datetime(["2024-01-01", "2024-01-02"]), "holds dates"),
        ([f"note {each}" for each in range(1001)], "holds 1001 different texts"),
        (np.zeros((2, 2)), "one value per row is needed"),
    ],
)
def test_what_is_no_column(values, says):
    with pytest.raises(MedwardError, match=says):
        learn_columns(read_table({"x": values}))


def test_rows_must_be_alike_and_named_rules_must_be_there():
    for rows, says in [
        ([{"a": 1}, {"b": 1}], "row 1: column 'b' is unknown"),
        ([{"a": 1}, {}], "row 1: column 'a' is absent"),
        ([{"a": 1}, 2], "row 1: a record of named values is needed, got int"),
        ({"a": [1], "b": [1, 2]}, "lengths a 1, b 2"),
        ({"a": []}, "there are no rows"),
    ]:
        with pytest.raises(MedwardError, match=says):
            read_table(rows)
    with pytest.raises(MedwardError, match="immutable: there is no column 'sex'"):
        learn_columns(read_table({"a": [1]}), immutable=["sex"])


def test_numbers_with_a_comma_are_no_category():
    with pytest.raises(MedwardError, match=r"holds numbers with a comma, as '1\.200,5'"):
        learn_columns(read_table({"lactate": ["12,5", "13", None, "1.200,5"]}))
    assert learn_columns(read_table({"ward": ["ER, 1", "12"]}))[0].values == ("12", "ER, 1")


def test_a_number_beyond_all_floats_and_two_names_that_are_one_are_refused():
    with pytest.raises(MedwardError, match="must be finite"):
        read_table([{"age": 10**400}])
    with pytest.raises(MedwardError, match="two columns have one name"):
        read_table({"1": [1.0], 1: [2.0]})
