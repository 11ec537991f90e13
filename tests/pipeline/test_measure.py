import numpy as np
import pyarrow as pa
import pytest

from bestfor.data.schema import CANDIDATES, QUERIES, UTILITIES, read
from bestfor.errors import InputError
from bestfor.pipeline.measure import measure, measure_pool
from bestfor.pool import CandidatePool
from bestfor.utilities.overlap import Overlap


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
    assert found["utility"].to_pylist() == pytest.approx([2 / 3, 0.8, 0.4])


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
