from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor.diagnostics import best_of_n, mbr_curve
from bestfor.errors import InputError
from bestfor.metrics import Query
from bestfor.metrics.overlap import Overlap, words
from bestfor.rewards import Mbr
from bestfor.rewards.mbr import cosine_matrix, exact_matrix, rouge_matrix
from bestfor.testing.rewards import LetterEncoder, OtherEncoder, RewardModelTests, assert_same, taste_examples


class TestMbr(RewardModelTests):
    model = Mbr

    def test_refuses_another_encoder(self, tmp_path):
        """By words none is asked, so any will do."""
        examples = taste_examples()
        model = self.build().fit(examples, rng=0)
        model.save(tmp_path)
        assert_same(Mbr.load(tmp_path, encoder=OtherEncoder()).predict(examples), model.predict(examples))


class TestMbrByCosine(RewardModelTests):
    model = Mbr
    options: ClassVar = {"by": "cosine"}


class TestMbrByVotes(RewardModelTests):
    model = Mbr
    options: ClassVar = {"by": "exact"}

    def test_refuses_another_encoder(self, tmp_path):
        """None is asked, so any will do."""
        examples = taste_examples()
        model = self.build().fit(examples, rng=0)
        model.save(tmp_path)
        assert_same(Mbr.load(tmp_path, encoder=OtherEncoder()).predict(examples), model.predict(examples))


def phrases(users=3, queries=2, candidates=6):
    """Queries whose candidates share words, each text of its own row."""
    examples = taste_examples(users=users, queries=queries, candidates=candidates)
    vocabulary = ["the", "quiet", "river", "runs", "under", "an", "old", "stone", "bridge", "at", "night"]
    draw = np.random.default_rng(0)
    texts = tuple(" ".join(draw.choice(vocabulary, draw.integers(2, 7))) for _ in range(len(examples)))
    return replace(examples, texts=texts, text=draw.permutation(len(examples)))


@pytest.mark.parametrize("by", ["rougeL", "cosine"])
def test_a_reward_is_the_mean_likeness_to_the_querys_others(by):
    examples = phrases()
    found = Mbr(by=by, encoder=LetterEncoder()).fit(examples, rng=0).predict(examples).mean
    for row in range(len(examples)):
        others = np.flatnonzero((examples.query == examples.query[row]) & (np.arange(len(examples)) != row))
        text, rest = (
            examples.texts[examples.text[row]],
            [examples.texts[code] for code in examples.text[others]],
        )
        if by == "rougeL":
            alike = Overlap("rougeL").measure(Query("q", "u", "", reference=text), rest)
        else:
            vectors = LetterEncoder().encode([text, *rest]).astype(float)
            alike = vectors[1:] @ vectors[0]
        assert found[row] == pytest.approx(alike.mean(), abs=1e-6)


def test_a_candidate_alone_has_nothing_to_be_like_and_equal_texts_vote():
    examples = phrases(users=1, queries=1, candidates=4)
    model = Mbr().fit(examples, rng=0)
    np.testing.assert_array_equal(model.predict(examples.take(np.arange(1))).mean, [0.0])
    votes = replace(examples, texts=("yes", "no"), text=np.array([0, 1, 0, 0]))
    np.testing.assert_allclose(model.predict(votes).mean, [2 / 3, 0, 2 / 3, 2 / 3], rtol=1e-8)


def test_the_whole_pools_pick_is_the_curves_at_the_pools_size_and_there_alone():
    examples = phrases()
    rewards = Mbr().fit(examples, rng=0).predict(examples).mean.reshape(6, 6)
    utility = examples.utility.reshape(6, 6)
    likeness = [rouge_matrix([examples.texts[code] for code in part]) for part in examples.text.reshape(6, 6)]
    n = np.arange(1, 7)
    honest = mbr_curve(likeness, utility, n).utility
    informed = best_of_n(rewards, utility, np.full(6, 6), n)
    np.testing.assert_allclose(honest[:, [0, 5]], informed[:, [0, 5]], atol=1e-12)
    np.testing.assert_allclose(honest[:, 1], utility.mean(axis=1))
    assert np.abs(honest - informed)[:, 1:5].max() > 0.01


def test_matrices_are_symmetric_and_of_texts_without_words_0():
    texts = ["a stone bridge", "the old bridge", "a stone bridge", "", "..."]
    found = rouge_matrix(texts)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found[0], [1, 1 / 3, 1, 0, 0])
    np.testing.assert_array_equal(found[3:], 0)
    cosines = cosine_matrix([*texts[:3], ""], LetterEncoder())
    np.testing.assert_allclose(np.diag(cosines)[:3], 1.0, atol=1e-6)
    np.testing.assert_array_equal(cosines[3], 0)


def pair_by_pair(texts):
    """ROUGE-L of each pair by the bits of a number (Hyyro 2004)."""
    split = [words(text) for text in texts]
    found = np.zeros((len(split), len(split)))
    for row, left in enumerate(split):
        for column, right in enumerate(split):
            rest = whole = (1 << len(left)) - 1
            for token in right:
                here = rest & sum(1 << place for place, word in enumerate(left) if word == token)
                rest = (rest + here | rest - here) & whole
            length = len(left) + len(right)
            found[row, column] = 2 * (len(left) - rest.bit_count()) / length if length else 0.0
    return found


@pytest.mark.parametrize("length", [5, 70, 200])
def test_matrices_have_the_bits_of_pairs_one_at_a_time(length):
    draw = np.random.default_rng(length)
    texts = [" ".join(draw.choice([*"abcdefgh"], draw.integers(0, length + 1))) for _ in range(12)] + ["...", "a b"]
    np.testing.assert_array_equal(rouge_matrix([*texts, texts[3]]), pair_by_pair([*texts, texts[3]]))


def test_matrices_of_little_have_their_shapes():
    assert rouge_matrix([]).shape == (0, 0)
    np.testing.assert_array_equal(rouge_matrix(["a b"]), [[1.0]])
    np.testing.assert_array_equal(rouge_matrix([""]), [[0.0]])


def test_by_words_no_encoder_is_needed_and_by_cosine_only_its_own_serves(tmp_path):
    examples = phrases()
    model = Mbr(encoder="no such encoder").fit(examples, rng=0)
    assert np.isfinite(model.predict(examples).mean).all()
    Mbr(by="cosine", encoder=LetterEncoder()).fit(examples, rng=0).save(tmp_path)
    with pytest.raises(InputError, match="letters-2"):
        Mbr.load(tmp_path, encoder=OtherEncoder()).predict(examples)


def test_a_vote_counts_the_same_words_in_the_same_order():
    texts = ["The old Bridge.", "the old bridge", "old the bridge", "", "...", "the old bridge!", "a"]
    votes = exact_matrix(texts)
    same = [[left.lower().strip(".!") == right.lower().strip(".!") != "" for right in texts] for left in texts]
    np.testing.assert_array_equal(votes, np.array(same, dtype=float))
    assert exact_matrix([]).shape == (0, 0)


def test_the_majority_wins_and_the_earliest_where_no_two_agree():
    examples = phrases(users=1, queries=2, candidates=4)
    wrote = ("no", "Yes.", "maybe", "yes", "one", "two", "three", "four")
    votes = replace(examples, texts=wrote, text=np.arange(8))
    rewards = Mbr(by="exact").fit(votes, rng=0).predict(votes).mean.reshape(2, 4)
    np.testing.assert_allclose(rewards, [[0, 1 / 3, 0, 1 / 3], [0, 0, 0, 0]])
    assert rewards.argmax(axis=1).tolist() == [1, 0], "ties go to the earliest"
    curve = mbr_curve([exact_matrix(wrote[:4])], np.array([[0.0, 1.0, 0.0, 1.0]]), [1, 2, 4]).utility
    np.testing.assert_allclose(curve, [[1 / 2, 1 / 2, 1.0]])
