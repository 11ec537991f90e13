"""Requests from JSON lines, tables of requests and tables of candidates; batches, and bad lines by their number."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.data.candidates import History
from bestfor.data.requests import (
    AT_ONCE,
    AnswerRequest,
    count_requests,
    in_batches,
    requests_of_file,
    requests_of_lines,
)
from bestfor.errors import InputError

ROWS = [
    {"user": "ann", "prompt": "Hi", "texts": ["a", "b"], "query": "q1", "other": 3},
    {"user": 7, "texts": ["ä\n\"x\""]},
    {"user": "ann", "prompt": "Bye", "texts": ["c"], "history": ["old", "older"]},
]  # fmt: skip
READ = [
    AnswerRequest("q1", "ann", "Hi", ("a", "b")),
    AnswerRequest("2", "7", "", ('ä\n"x"',)),
    AnswerRequest("3", "ann", "Bye", ("c",), ("old", "older")),
]


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def requests(batches):
    return [one for batch in batches for one in batch.requests]


def test_json_lines_and_parquet_hold_the_same_requests(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(ROWS))
    table = pa.Table.from_pylist([{"history": None, "query": None, "prompt": None, **row, "user": str(row["user"])} for row in ROWS])  # fmt: skip  # noqa: E501
    pq.write_table(table, tmp_path / "a.parquet")
    assert requests(requests_of_lines(io.BytesIO(lines(ROWS)), "here")) == READ
    for name in ("a.jsonl", "a.parquet"):
        batches = list(requests_of_file(tmp_path / name))
        assert requests(batches) == READ
        assert [batch.history for batch in batches] == [None, History({"ann": ("old", "older")})]
        assert count_requests(tmp_path / name) == 3


def test_rows_of_candidates_are_grouped(tmp_path):
    (tmp_path / "a.csv").write_text('text,user,prompt\n"a, b",ann,Hi\nc,ann,Hi\nd,bob,Hi\n')
    expected = [AnswerRequest("1", "ann", "Hi", ("a, b", "c")), AnswerRequest("2", "bob", "Hi", ("d",))]
    assert requests(requests_of_file(tmp_path / "a.csv")) == expected
    rows = [{"user": "ann", "query": "q", "text": "a"}, {"user": "ann", "query": "q", "text": "b"}]
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    assert requests(requests_of_file(tmp_path / "a.jsonl")) == [AnswerRequest("q", "ann", "", ("a", "b"))]
    (tmp_path / "b.csv").write_text("text,user,prompt\na,ann,Hi\nb,bob,Hi\nc,ann,Hi\n")
    with pytest.raises(InputError, match="row 3: found another part of a request of user 'ann'"):
        requests(requests_of_file(tmp_path / "b.csv"))
    (tmp_path / "c.csv").write_text("text,user,prompt\na,,Hi\n")
    with pytest.raises(InputError, match="row 1, column 'user'"):
        requests(requests_of_file(tmp_path / "c.csv"))


class Trickle:
    """A stream that gives what has come, as a pipe does."""

    def __init__(self, *chunks):
        self.chunks = list(chunks)

    def read1(self, size):
        return self.chunks.pop(0) if self.chunks else b""


def test_an_answer_never_waits_for_the_next_line():
    first, second, third = (lines([row]) for row in ROWS)
    stream = Trickle(first, second[:5], second[5:] + third[:9], third[9:].rstrip(b"\n"))
    batches = requests_of_lines(stream, "here")
    assert next(batches).requests == (READ[0],)
    assert len(stream.chunks) == 3
    assert next(batches).requests == (READ[1],)
    assert len(stream.chunks) == 1
    assert next(batches).requests == (READ[2],)
    assert list(batches) == []


def test_batches_are_whole_and_a_user_has_one_history_in_each():
    rows = [{"user": f"u{place % 3}", "texts": ["a"], "history": [str(place // 3)]} for place in range(9)]
    assert [len(one.requests) for one in requests_of_lines(io.BytesIO(lines(rows)), "here")] == [3, 3, 3]
    many = [{"user": "u", "texts": ["a"]}] * (AT_ONCE + 5)
    assert [len(one.requests) for one in requests_of_lines(io.BytesIO(lines(many)), "here")] == [AT_ONCE, 5]


def test_histories_of_a_pool_go_by_the_place_in_the_batch():
    history = History({"ann": ("x", "y")}, {"q0": 1, "q2": 2}, {"ann": 1})
    asked = [AnswerRequest(f"q{place}", "ann", "", ("a",)) for place in range(3)]
    (batch,) = in_batches(asked, history)
    assert batch.history == History({"ann": ("x", "y")}, {"0": 1, "2": 2}, {"ann": 1})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 2: found what is not JSON"),
        (b'"x"', "line 2: found a value of type str"),
        (b"{}", "line 2: found no 'user'"),
        (b'{"user": "", "texts": ["a"]}', "line 2: found \"\" as 'user'"),
        (b'{"user": true, "texts": ["a"]}', "line 2: found true as 'user'"),
        (b'{"user": "a"}', "line 2: found no 'texts'"),
        (b'{"user": "a", "texts": []}', "line 2, 'texts': found an empty list"),
        (b'{"user": "a", "texts": "b"}', "line 2, 'texts': found a value of type str"),
        (b'{"user": "a", "texts": ["b", 3]}', "line 2, 'texts', number 2: found a value of type int"),
        (b'{"user": "a", "texts": ["\\ud800"]}', "line 2, 'texts', number 1: found half of a surrogate pair"),
        (b'{"user": "a", "texts": ["b"], "prompt": 3}', "line 2, 'prompt': found a value of type int"),
        (b'{"user": "a", "texts": ["b"], "history": {}}', "line 2, 'history': found a value of type dict"),
        (b'{"user": "\xff"}', "line 2: found what is not JSON"),
        (b"[" * 100_000, "line 2: found what is not JSON"),
    ],
)
def test_what_came_before_a_bad_line_is_given(line, said):
    batches = requests_of_lines(io.BytesIO(lines(ROWS[:1]) + line + b"\n" + lines(ROWS)), "here")
    assert next(batches).requests == (READ[0],)
    with pytest.raises(InputError, match=said):
        next(batches)


def test_the_first_candidates():
    one = AnswerRequest("q", "u", "", ("a", "b", "c"), None, (4, 5, 9))
    assert one.first(2) == AnswerRequest("q", "u", "", ("a", "b"), None, (4, 5))
    assert one.first(5) is one
    assert [one.number(2), READ[0].number(1)] == [9, 1]
