import math
import pickle
import sys

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from bestfor.errors import InputError, MissingExtraError
from bestfor.metrics import METRICS, make_metric
from bestfor.metrics.agreement import AbsoluteError, Exact
from bestfor.metrics.base import Metric, Query
from bestfor.metrics.embedding import EmbeddingSimilarity
from bestfor.metrics.ngrams import Ngrams

OFFLINE = sorted(set(METRICS) - {"meteor", "embedding", "judge", "taste"})
WORDS = st.lists(st.sampled_from(["a", "red", "house", "stands", "Übung", "."]), max_size=8).map(" ".join)


def ask(reference):
    return Query("q", "u", "what?", reference)


class Letters:
    """An encoder that counts a, b and c."""

    name, signature, dim = "letters", "s" * 64, 3

    def __init__(self):
        self.calls = 0

    def encode(self, texts):
        self.calls += 1
        return np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float32)


@pytest.mark.parametrize("name", OFFLINE)
def test_every_metric_has_its_name_signature_and_a_value_for_each_text(name):
    metric = make_metric(name)
    assert isinstance(metric, Metric)
    assert metric.name == metric.signature["metric"] == name
    assert all(isinstance(value, str | int | float | bool) for value in metric.signature.values())
    texts = ["3", "4 and more", "", "3"]
    found = metric.measure(ask("3"), texts)
    assert found.shape == (4,)
    assert np.isfinite(found).all()
    assert found[0] == found[3] == found.max()
    assert np.array_equal(pickle.loads(pickle.dumps(metric)).measure(ask("3"), texts), found)
    assert metric.measure(ask("3"), []).shape == (0,)
    with pytest.raises(InputError, match=f"query 'q': found no reference; expected the user's own text, which {name}"):
        metric.measure(ask(None), ["x"])


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match="metric: found 'rouge-L'; expected 'rougeL'"):
        make_metric("rouge-L")


@given(reference=WORDS, texts=st.lists(WORDS, max_size=4))
def test_bleu_and_chrf_are_sacrebleus(reference, texts):
    bleu = [sacrebleu.sentence_bleu(text, [reference], use_effective_order=True).score / 100 for text in texts]
    chrf = [sacrebleu.sentence_chrf(text, [reference]).score / 100 for text in texts]
    assert np.array_equal(Ngrams("bleu").measure(ask(reference), texts), np.array(bleu))
    assert np.array_equal(Ngrams("chrf").measure(ask(reference), texts), np.array(chrf))


def test_bleu_by_hand():
    """Precisions 3/4, 2/3, 1/2 and, smoothed, 1/2 of one: equal lengths, so no brevity penalty."""
    assert Ngrams("bleu").measure(ask("a b c d"), ["a b c e"]) == pytest.approx(
        [(3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25]
    )
    assert sacrebleu.__version__ in str(Ngrams("bleu").signature["sacrebleu"])


def test_exact_match_leaves_outer_space_aside():
    assert Exact().measure(ask("[1]"), [" [1]\n", "[2]", "1", ""]).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_absolute_error_is_negated_and_nonsense_gets_the_farther_end():
    texts = ["4", " 2.5 ", "five", "", "nan", "inf", "-3"]
    assert AbsoluteError().measure(ask("4"), texts).tolist() == [0.0, -1.5, -3.0, -3.0, -3.0, -3.0, -7.0]
    assert AbsoluteError(0, 10).measure(ask("3"), ["?"]).tolist() == [-7.0]
    with pytest.raises(InputError, match="query 'q', reference: found 'good'; expected a number"):
        AbsoluteError().measure(ask("good"), ["4"])
    with pytest.raises(InputError, match="a scale from 5 to 1"):
        AbsoluteError(5, 1)


def test_embedding_similarity_is_the_cosine_and_asks_the_encoder_once():
    encoder = Letters()
    metric = EmbeddingSimilarity(encoder)
    queries, texts = [ask("aab"), ask("c")], [["aab", "b", "", "c"], ["cc", "aab"]]
    first, second = metric.measure_many(queries, texts)
    assert first == pytest.approx([1.0, 1 / math.sqrt(5), 0.0, 0.0])
    assert second == pytest.approx([1.0, 0.0])
    assert encoder.calls == 1
    assert np.array_equal(metric.measure(queries[0], texts[0]), first)
    assert metric.signature == {"metric": "embedding", "encoder": "letters", "content": "s" * 64}
    with pytest.raises(InputError, match="found no reference"):
        metric.measure(ask(None), ["x"])


def test_missing_extra_names_its_command(monkeypatch):
    from bestfor.metrics import ngrams

    ngrams._scorer.cache_clear()
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(MissingExtraError, match=r"bestfor\[metrics\]"):
        make_metric("bleu")
