from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.endpoint.failures import ErrorWords, of_status, retry_after, said_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        ({"date": format_datetime(NOW, usegmt=True), "retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30.0),
        ({"date": format_datetime(NOW, usegmt=True), "retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0),
        ({"date": "yesterday", "retry-after": "Sun, 01 Mar 2020 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 99 Mar 2026 11:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers) == seconds


def test_a_date_counts_from_this_clock_where_the_server_tells_no_time():
    until = datetime.now(UTC) + timedelta(seconds=100)
    assert 90 < (retry_after({"retry-after": format_datetime(until, usegmt=True)}) or 0) <= 100


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), st.text(max_size=40)))
def test_headers_of_any_kind_are_borne(headers):
    seconds = retry_after(headers)
    assert seconds is None or 0 <= seconds < float("inf")


@given(
    st.integers(400, 599),
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["error", "code", "param", "message", "type"]), inner)
        ),
    ),
)
def test_bodies_of_any_kind_are_borne(status, body):
    said = said_of(body)
    failure = of_status(status, {}, ErrorWords("words", said.parameter, said.code))
    assert f"HTTP {status}: words" in failure.reason
    assert all(isinstance(part, str) for part in (said.text, said.parameter, said.code))
    assert not (failure.again and failure.hopeless)
