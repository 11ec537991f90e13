"""Moments as people, pandas and databases write them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.read.times import moment, times_of
from bestfor.errors import InputError

TEN = datetime(2021, 3, 1, 10, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        *("2021-03-01T10:00:00Z", "2021-03-01 10:00:00", "2021-03-01T12:00:00+02:00", "2021-03-01 10:00:00+00"),
        *("2021-03-01 10:00:00 UTC", "2021-03-01 10:00:00.000000", "2021-03-01T10:00:00.000000000"),
        *("2021/03/01 10:00", "2021/3/1 10:00:00", "Mon, 01 Mar 2021 10:00:00 GMT", "Mon, 1 Mar 2021 05:00:00 -0500"),
        *(str(int(TEN)), str(int(TEN * 1000)), f"{TEN:.1f}", " 2021-03-01T10:00Z "),
    ],
)
def test_one_moment_in_many_spellings(text):
    assert moment(text) == TEN


@pytest.mark.parametrize(
    "text", ["soon", "03/01/2021", "2021-13-01", "10:00", "", "1.3.2021", "2021-03-01 10:00 Mars/Base"]
)
def test_what_says_no_moment_is_none(text):
    assert moment(text) is None


def test_years_and_months():
    assert moment("2019") == datetime(2019, 1, 1, tzinfo=UTC).timestamp()
    assert moment("2019.0") == moment("2019")
    assert moment("2019-05") == datetime(2019, 5, 1, tzinfo=UTC).timestamp()


@given(st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)), min_size=2, max_size=9, unique=True))
def test_order_is_kept_to_the_microsecond(moments):
    for write in (str, datetime.isoformat, lambda one: pd.Timestamp(one).isoformat()):
        found = times_of([write(one) for one in moments], "t, column 'w'", np.arange(len(moments)))
        np.testing.assert_array_equal(np.argsort(found), sorted(range(len(moments)), key=moments.__getitem__))


def test_numbers_stay_as_they_are():
    assert times_of(["3", "1.5", "20"], "t, column 'w'", np.arange(3)).tolist() == [3, 1.5, 20]


@pytest.mark.parametrize(("cell", "found"), [("", "an empty cell"), ("NaT", "an empty cell"), ("soon", "'soon'")])
def test_what_is_no_time_is_named(cell, found):
    when = str(datetime(2021, 3, 1, tzinfo=UTC) + timedelta(days=1))
    with pytest.raises(InputError, match=f"t, row 9, column 'w': found {found}; expected a year, a date"):
        times_of([when, cell], "t, column 'w'", np.array([4, 9]))
