"""Every metric conforms; those from outside are found by dotted paths; what is wrong with one is one line."""

import sys

import numpy as np
import pytest

from bestfor.data.world import World, build
from bestfor.errors import InputError
from bestfor.metrics import METRICS, make_metric, metric_label
from bestfor.metrics.agreement import AbsoluteError, Exact
from bestfor.metrics.base import Query
from bestfor.metrics.check import check_values
from bestfor.metrics.embedding import EmbeddingSimilarity
from bestfor.metrics.ngrams import Ngrams
from bestfor.metrics.overlap import Overlap, UnicodeOverlap
from bestfor.metrics.taste import Taste
from bestfor.testing.metrics import MetricTests
from bestfor.testing.rewards import LetterEncoder


class TestRouge1(MetricTests):
    metric = Overlap
    options = {"name": "rouge1"}


class TestRougeL(MetricTests):
    metric = Overlap


class TestStemmed(MetricTests):
    metric = Overlap
    options = {"stemmer": True}


class TestBleu(MetricTests):
    metric = Ngrams


class TestChrf(MetricTests):
    metric = Ngrams
    options = {"name": "chrf"}


class TestUnicodeRouge(MetricTests):
    metric = UnicodeOverlap
    options = {"name": "rougeL_unicode"}


class TestExact(MetricTests):
    metric = Exact


class TestAbsoluteError(MetricTests):
    metric = AbsoluteError
    query = Query("q1", "u1", "how many?", "3")


class TestEmbedding(MetricTests):
    metric = EmbeddingSimilarity
    options = {"encoder": LetterEncoder()}


class TestTaste(MetricTests):
    world = World(seed=3, users=2, queries=1)
    metric = Taste
    options = {"world": world}
    row = build(world).queries.to_pylist()[0]
    query = Query(row["query_id"], row["user_id"], row["input"])


OWN = """
import numpy as np
class Shortness:
    name = "shortness"
    signature = {"metric": "shortness"}
    def measure(self, query, texts):
        return np.array([-float(len(text)) for text in texts])
class Nameless(Shortness):
    name = None
class Asking(Shortness):
    def __init__(self, how): self.how = how
"""


def test_the_names_of_metrics():
    assert list(METRICS) == sorted(METRICS)
    assert set(METRICS) == {
        *("rouge1", "rouge2", "rougeL", "meteor", "bleu", "chrf", "embedding", "exact", "absolute_error"),
        *("rouge1_unicode", "rouge2_unicode", "rougeL_unicode"),
        *("judge", "taste"),
    }


def test_a_dotted_metric(tmp_path, monkeypatch):
    (tmp_path / "theirs_metric.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    metric = make_metric("theirs_metric:Shortness")
    assert metric.measure(Query("q", "u", ""), ["abc"]).tolist() == [-3.0]
    assert metric_label("theirs_metric:Shortness") == "shortness"
    with pytest.raises(InputError, match=r"metric 'Nameless': found no 'name'; expected name"):
        make_metric("theirs_metric:Nameless")
    with pytest.raises(InputError, match=r"metric 'Nameless': found no 'name'; expected name"):
        metric_label("theirs_metric:Nameless")
    with pytest.raises(InputError, match=r"found no 'how'; expected it to be given: 'Asking' needs it"):
        make_metric("theirs_metric:Asking")
    with pytest.raises(InputError, match=r"found unknown key 'hwo' for 'Asking'; expected 'how'"):
        make_metric("theirs_metric:Asking", hwo=1)
    with pytest.raises(InputError, match=r"metric: found 'theirs_metric:Short': no class 'Short'"):
        make_metric("theirs_metric:Short")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "query 'q': found a NoneType; expected an array of numbers"),
        ([1.0, 2.0], "found a list; expected an array"),
        (np.array(["a", "b"]), "an array of <U1"),
        (np.zeros(3), r"utilities of shape \(3,\); expected \(2,\), one for each text"),
        (np.zeros((2, 1)), r"shape \(2, 1\)"),
        (np.array([0.0, np.nan]), "a value that is not finite; expected finite numbers"),
    ],
)
def test_what_a_metric_returns_is_checked(values, message):
    with pytest.raises(InputError, match=message):
        check_values(Exact(), values, "q", 2)


def test_a_metric_without_methods_is_named():
    from bestfor.metrics.check import check_metric, signature_of

    bare = type("Bare", (), {"name": "bare", "signature": {"a": [1]}})()
    with pytest.raises(InputError, match="metric 'Bare': found no 'measure'"):
        check_metric(bare)
    with pytest.raises(InputError, match=r"metric 'Bare': found signature .* of type dict; expected a property"):
        signature_of(bare)
    with pytest.raises(InputError, match="metric 'Bare': found no 'signature'"):
        check_metric(type("Bare", (), {"name": "bare"})())
