import pickle
import string
import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.errors import InputError, MissingExtraError
from bestfor.metrics import overlap
from bestfor.metrics.base import Metric, Query
from bestfor.metrics.overlap import Overlap, subsequences, words
from support import later

rouge_scorer = later("rouge_score.rouge_scorer")
tokenizers = later("rouge_score.tokenizers")


@cache
def package(stemmer):
    return rouge_scorer.RougeScorer(list(Overlap.names), use_stemmer=stemmer)


def ask(reference):
    return Query("q", "u", "what?", reference)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("rouge1", [1.0, 4 / 7, 0.0, 0.75]), ("rouge2", [1.0, 0.4, 0.0, 1 / 3]), ("rougeL", [1.0, 4 / 7, 0.0, 0.5])],
)
def test_small_cases_by_hand(name, expected):
    texts = ["Cats chase the mice", "the mice sleep", "", "the mice chased cats"]
    assert Overlap(name).measure(ask("cats chase the mice"), texts) == pytest.approx(expected)


def test_a_published_pair_scores_as_lamps_evaluation_scores_it():
    """What evaluate.load("rouge").compute(predictions, references) gives: rouge-score, F-measure, no stemming."""
    reference, text = "Learning to rank papers for reviewers", "Ranking papers: learning how to help reviewers"
    expected = {"rouge1": 8 / 13, "rouge2": 0.0, "rougeL": 6 / 13}
    for name, value in expected.items():
        assert Overlap(name).measure(ask(reference), [text]) == pytest.approx([value])
        assert package(False).score(reference, text)[name].fmeasure == pytest.approx(value)
    assert Overlap("rouge1", stemmer=True).measure(ask(reference), [text]) == pytest.approx([10 / 13])


sentences = st.lists(
    st.sampled_from(
        ["the", "running", "runs", "ran", "Übung", "state-of-the-art", "2026", "models!", "", "naïve", "İx"]
    ),
    max_size=14,
).map(" ".join) | st.text(string.printable, max_size=30)


@given(
    reference=sentences,
    texts=st.lists(sentences, max_size=5),
    name=st.sampled_from(Overlap.names),
    stemmer=st.booleans(),
)
@settings(max_examples=200)
def test_values_are_those_of_rouge_score_to_the_bit(reference, texts, name, stemmer):
    found = Overlap(name, stemmer=stemmer).measure(ask(reference), texts)
    expected = [package(stemmer).score(reference, text)[name].fmeasure for text in texts]
    assert np.array_equal(found, np.array(expected))


@given(st.text(max_size=40))
def test_words_are_those_of_rouge_score(text):
    assert words(text) == tokenizers.DefaultTokenizer(use_stemmer=False).tokenize(text)


def by_table(left, right):
    table = np.zeros((len(left) + 1, len(right) + 1), dtype=int)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    return table[-1, -1]


def by_bits(left, right):
    """A column of the table at a time as bits of a number (Hyyro 2004)."""
    places = {}
    for place, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << place
    column = whole = (1 << len(left)) - 1
    for token in right:
        here = column & places.get(token, 0)
        column = (column + here | column - here) & whole
    return len(left) - column.bit_count()


@given(st.lists(st.sampled_from("abc"), max_size=90), st.lists(st.sampled_from("abcd"), max_size=90))
@settings(max_examples=60)
def test_subsequences_by_bits_are_as_long_as_by_the_table(left, right):
    assert by_bits(left, right) == by_table(left, right)


sequences = st.lists(st.sampled_from([f"w{k}" for k in range(40)]), max_size=300)


@given(sequences, st.lists(sequences, max_size=4))
@settings(max_examples=100)
def test_the_librarys_subsequences_are_as_long_as_by_bits(left, others):
    assert subsequences(left, others) == [by_bits(left, right) for right in others]


def test_stemming_is_off_and_says_so():
    assert Overlap("rouge1").signature == {"metric": "rouge1", "stemmer": False, "rouge-score": "0.1.2"}
    assert Overlap("rouge1", stemmer=True).measure(ask("running models"), ["run model"]) == pytest.approx([1.0])
    assert Overlap("rouge1").measure(ask("running models"), ["run model"]) == pytest.approx([0.0])
    assert isinstance(Overlap("rouge1"), Metric)


def test_it_can_be_sent_to_another_process():
    metric = pickle.loads(pickle.dumps(Overlap("rougeL", stemmer=True)))
    assert metric.measure(ask("running models"), ["run model"]) == pytest.approx([1.0])


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(InputError, match="query 'q': found no reference"):
        Overlap("rougeL").measure(Query("q", "u", "what?"), ["x"])
    with pytest.raises(InputError, match="'rouge-l'; expected 'rougeL'"):
        Overlap("rouge-l")
    overlap._stemming.cache_clear()
    monkeypatch.setitem(sys.modules, "rouge_score.tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"bestfor\[metrics\]"):
        Overlap("rouge1", stemmer=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("市議會討論 Uber 2020", ["市", "議", "會", "討", "論", "uber", "2020"]),
        ("Городской Совет", ["городской", "совет"]),
        ("हिन्दी में लिखना", ["हिन्दी", "में", "लिखना"]),
        ("ภาษาไทย", ["ภ", "า", "ษ", "า", "ไ", "ท", "ย"]),
        ("น่ารัก", ["น่", "า", "รั", "ก"]),
        ("カタカナ ﾊﾝ", ["カ", "タ", "カ", "ナ", "ハ", "ン"]),
        ("E\u0301te\u0301, sn_ke!", ["été", "sn", "ke"]),
        ("서울 시의회", ["서울", "시의회"]),
        ("، ؟ — ...", []),
    ],
)
def test_words_of_any_script(text, expected):
    assert overlap.unicode_words(text) == expected


@given(
    st.lists(st.text(string.ascii_letters + string.digits + " .,'-\n", max_size=30), min_size=1, max_size=4), st.data()
)
def test_on_plain_letters_both_kinds_of_rouge_agree(texts, data):
    reference = data.draw(st.sampled_from(texts))
    for name in Overlap.names:
        unicode = overlap.UnicodeOverlap(f"{name}_unicode").measure(ask(reference), texts)
        np.testing.assert_array_equal(unicode, Overlap(name).measure(ask(reference), texts))


def test_scripts_without_spaces_are_measured_by_letters():
    found = overlap.UnicodeOverlap("rouge1_unicode").measure(ask("市議會討論"), ["市議會休會", "Uber", "市議會討論"])
    assert found == pytest.approx([0.6, 0.0, 1.0])  # three of five letters
    assert Overlap("rouge1").measure(ask("市議會討論"), ["市議會休會"]) == [0.0]
    with pytest.raises(InputError, match="rougeL_unicode"):
        overlap.UnicodeOverlap("rougeL_unicod")


@pytest.mark.parametrize(
    ("references", "share"),
    [
        (["市議會討論橋樑維修 Uber"], "31%"),
        (["Городской совет", "abc"], "18%"),
        (["ελληνικά"], "0%"),
        (["Việt Nam đẹp"], "70%"),
    ],
)
def test_a_note_where_rouge_is_blind(references, share):
    (note,) = overlap.script_notes(["rougeL", "chrf", "rouge1"], references)
    assert note.startswith(f"rougeL and rouge1 see {share} of the letters of the references")
    assert "rougeL_unicode or chrf" in note
    assert overlap.script_notes(["chrf", "rougeL_unicode"], references) == ()


@pytest.mark.parametrize(
    "references", [[], [""], ["..."], ["Plain words, 12 of them"], ["Der Fluß ist lang und über die Ufer"]]
)
def test_no_note_where_rouge_sees(references):
    assert overlap.script_notes(["rougeL"], references) == ()


def test_metrics_of_spaced_words_say_where_there_are_none():
    (note,) = overlap.script_notes(["bleu", "chrf"], ["河水上漲橋樑關閉", "Uber 2021"])
    assert note.startswith(
        "50% of the letters of the references are of scripts without spaces, of which bleu takes a whole"
    )
    assert len(overlap.script_notes(["meteor", "bleu", "rougeL"], ["ข่าววันนี้น่าสนใจมาก"])) == 2
    for reference in ("Über die Brücke", "Καλημέρα κόσμε", "안녕 세상 여러분", "", "2021"):
        assert overlap.script_notes(["meteor", "bleu"], [reference]) == ()
