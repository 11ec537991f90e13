import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from bestfor.errors import InputError
from bestfor.utilities.base import Metric, Query
from bestfor.utilities.overlap import NAMES, Overlap

METRICS = {name: Overlap(name) for name in NAMES}
PLAIN = RougeScorer(list(NAMES), use_stemmer=True)


def ask(reference):
    return Query("q", "u", "what?", reference)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("rouge1", [1.0, 4 / 7, 0.0, 1.0]), ("rouge2", [1.0, 0.4, 0.0, 1 / 3]), ("rougeL", [1.0, 4 / 7, 0.0, 0.5])],
)
def test_small_cases_by_hand(name, expected):
    texts = ["Cats chase the mice", "the mice sleep", "", "the mice chased cats"]
    assert METRICS[name].measure(ask("cats chase the mice"), texts) == pytest.approx(expected)


sentences = st.lists(
    st.sampled_from(["the", "running", "runs", "ran", "Übung", "state-of-the-art", "2026", "models!", "", "naïve"]),
    max_size=8,
).map(" ".join) | st.text(string.printable, max_size=30)


@given(reference=sentences, texts=st.lists(sentences, max_size=5), name=st.sampled_from(NAMES))
@settings(max_examples=150, deadline=None)
def test_values_are_those_of_rouge_score(reference, texts, name):
    found = METRICS[name].measure(ask(reference), texts)
    expected = [PLAIN.score(reference, text)[name].fmeasure for text in texts]
    assert np.array_equal(found, np.array(expected))


def test_stemming_is_on_and_says_so():
    assert METRICS["rouge1"].measure(ask("running models"), ["run model"]) == pytest.approx([1.0])
    assert METRICS["rouge1"].signature["stemmer"] is True
    assert isinstance(METRICS["rouge1"], Metric)


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match="query 'q': found no reference"):
        METRICS["rougeL"].measure(Query("q", "u", "what?"), ["x"])
    with pytest.raises(InputError, match="'rouge-l'; expected 'rougeL'"):
        Overlap("rouge-l")
