import multiprocessing
import os
import signal

import numpy as np
import pyarrow as pa
import pytest

from bestfor.data.schema import CANDIDATES, QUERIES, UTILITIES, read
from bestfor.errors import BestforError, InputError
from bestfor.metrics.overlap import Overlap
from bestfor.pool import CandidatePool
from bestfor.runs import measuring as module
from bestfor.runs.measuring import Measuring, measure, measure_pool


class Length:
    """Utility = number of characters, or what is set."""

    name = "length"

    def __init__(self, value=None):
        self.value, self.calls = value, 0
        self.signature = {"metric": "length", "value": repr(value)}

    def measure(self, query, texts):
        self.calls += 1
        return np.array([len(text) if self.value is None else self.value for text in texts], dtype=float)


def table(rows, schema):
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


CANDIDATE_ROWS = [
    ("q2", 0, "t0", "a red house", -1.0, "stop", "p", 0),
    ("q1", 0, "t1", "blue boats", None, "stop", "p", 0),
    ("q2", 1, "t2", "a house", -2.0, "stop", "p", 0),
]
QUERY_ROWS = [("q1", "u", "in", "a blue boat", "fit", None), ("q2", "v", "in", "the red house", "test", 3)]


@pytest.fixture
def candidates():
    return table(CANDIDATE_ROWS, CANDIDATES)


@pytest.fixture
def queries():
    return table(QUERY_ROWS, QUERIES)


def test_rows_are_those_of_the_candidates(candidates, queries):
    found = measure(candidates, queries, Overlap("rouge1"))
    assert found.schema == UTILITIES
    assert found["query_id"].to_pylist() == ["q2", "q1", "q2"]
    assert found["candidate"].to_pylist() == [0, 0, 1]
    assert found["utility"].to_pylist() == pytest.approx([2 / 3, 0.4, 0.4])


def test_what_cannot_be_measured_is_named(candidates, queries):
    with pytest.raises(InputError, match="query 'q1'"):
        measure(candidates, queries.slice(1), Length())
    bare = table([QUERY_ROWS[0], ("q2", "v", "in", None, "test", 3)], QUERIES)
    with pytest.raises(InputError, match="query 'q2': found no reference"):
        measure(candidates, bare, Overlap("rougeL"))
    with pytest.raises(InputError, match="metric 'length', query 'q2': found a value that is not finite"):
        measure(candidates, queries, Length(float("nan")))


def test_a_table_for_each_metric_is_written_once_for_the_same_inputs(tmp_path, candidates, queries):
    pool = CandidatePool(tmp_path / "pool")
    pool.append(candidates)
    length = Length()
    paths = measure_pool(pool, queries, [length, Overlap("rougeL")], tmp_path / "utilities")
    assert [path.name for path in paths] == ["length.parquet", "rougeL.parquet"]
    assert read(paths[0], UTILITIES)["utility"].to_pylist() == [10.0, 11.0, 7.0]
    before = paths[0].read_bytes()
    measure_pool(pool, queries, [length], tmp_path / "utilities")
    assert (length.calls, paths[0].read_bytes()) == (2, before)
    measure_pool(pool, queries, [Length(4.0)], tmp_path / "utilities")
    assert read(paths[0], UTILITIES)["utility"].to_pylist() == [4.0] * 3
    paths[0].write_bytes(b"torn")
    measure_pool(pool, queries, [length], tmp_path / "utilities")
    assert paths[0].read_bytes() == before
    with pytest.raises(InputError, match="distinct names"):
        measure_pool(pool, queries, [length, Length(1.0)], tmp_path)


def many(users=40, each=5):
    ids = [f"q{number:03}" for number in range(users)]
    texts = [f"the {i} of {j} houses by the {i * j % 7} rivers" for i in range(users) for j in range(each)]
    rows = [(ids[k // each], k % each, f"t{k}", text, None, "stop", "p", 0) for k, text in enumerate(texts)]
    asked = [(name, "u", "in", f"the {i} houses of {i % 7} rivers", "fit", None) for i, name in enumerate(ids)]
    return table(rows, CANDIDATES), table(asked, QUERIES)


def test_workers_change_no_value(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 12)
    rows, asked = many()
    alone = measure(rows, asked, Overlap("rougeL"))
    assert measure(rows, asked, Overlap("rougeL"), Measuring(workers=2)).equals(alone)
    bare = asked.set_column(3, "reference", pa.array([None if k == 3 else "x" for k in range(40)]))
    with pytest.raises(InputError, match="query 'q003': found no reference"):
        measure(rows, bare, Overlap("rougeL"), Measuring(workers=2))
    with pytest.raises(InputError, match="workers: found 0"):
        Measuring(workers=0)


class Deadly(Overlap):
    """Ends the process that it is sent to."""

    def measure(self, query, texts):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().measure(query, texts)


@pytest.mark.slow
def test_a_killed_worker_is_an_error(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 12)
    rows, asked = many(400)
    with pytest.raises(BestforError, match="metric 'rougeL': a process was ended"):
        measure(rows, asked, Deadly("rougeL"), Measuring(workers=2))


class Failing(Length):
    """Fails after so many queries."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def measure(self, query, texts):
        if self.calls == self.after:
            raise KeyboardInterrupt
        return super().measure(query, texts)


def test_what_was_done_before_an_interruption_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 10)
    rows, asked = many()
    pool = CandidatePool(tmp_path / "pool")
    pool.append(rows)
    (whole,) = measure_pool(pool, asked, [Length()], tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        measure_pool(pool, asked, [Failing(25)], tmp_path / "utilities")
    assert [path.name for path in (tmp_path / "utilities").iterdir()] == [".length.partial"]
    rest = Length()
    (path,) = measure_pool(pool, asked, [rest], tmp_path / "utilities")
    assert rest.calls == 40 - 24, "two queries make a chunk; the 25th query's chunk is done again"
    assert path.read_bytes() == whole.read_bytes()
    assert [path.name for path in (tmp_path / "utilities").iterdir()] == ["length.parquet"]


def test_a_partial_file_of_other_inputs_or_torn_is_left_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 10)
    rows, asked = many()
    partial = tmp_path / "partial"
    with pytest.raises(KeyboardInterrupt):
        measure(rows, asked, Failing(25), Measuring(partial=partial, inputs="these"))
    other = Length()
    measure(rows, asked, other, Measuring(partial=partial, inputs="those"))
    assert other.calls == 40
    partial.write_bytes(partial.read_bytes()[:-20])
    again = Length()
    measure(rows, asked, again, Measuring(partial=partial, inputs="these"))
    assert again.calls == 40


def test_a_partial_metric_leaves_out_what_has_no_value(candidates, queries):
    class Half(Length):
        partial = True

        def measure(self, query, texts):
            return np.array([np.nan if text.startswith("a ") else 1.0 for text in texts])

    found = measure(candidates, queries, Half())
    assert found.schema == UTILITIES
    assert found.select(["query_id", "candidate", "utility"]).to_pylist() == [
        {"query_id": "q1", "candidate": 0, "utility": 1.0}
    ]


def test_several_queries_reach_a_metric_together(candidates, queries):
    class Together(Length):
        many = True

        def measure_many(self, asked, texts):
            self.calls += 1
            return [super(Together, self).measure(query, one) for query, one in zip(asked, texts, strict=True)]

    metric = Together()
    assert measure(candidates, queries, metric)["utility"].to_pylist() == [11.0, 10.0, 7.0]
    assert metric.calls == 3, "one call for both queries, which makes two"


def test_a_bar_is_drawn_where_it_is_asked_for(candidates, queries, capfd):
    measure(candidates, queries, Overlap("rougeL"), Measuring(progress=True))
    assert "rougeL" in capfd.readouterr().err
    measure(candidates, queries, Overlap("rougeL"))
    assert capfd.readouterr() == ("", "")
