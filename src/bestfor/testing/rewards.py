"""Check that a reward model conforms: inherit :class:`RewardModelTests` and set ``model``.

class TestMine(RewardModelTests):
    model = Mine
    options = {"components": 8}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from bestfor import artifacts, rng
from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.errors import BestforError, InputError
from bestfor.files import hash_parts
from bestfor.rewards import RewardModel
from bestfor.types import Scores

LETTERS = "abcdefghijklmnop"


class LetterEncoder:
    """A tiny encoder for tests: how often each of 16 letters occurs, at unit length."""

    name = "letters"
    signature = "letters-1"
    dim = len(LETTERS)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of shape (n, 16)."""
        counts = np.array([[text.count(letter) for letter in LETTERS] for text in texts], dtype=np.float64)
        counts = counts.reshape(len(texts), self.dim)
        lengths = np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)
        return (counts / lengths).astype(np.float32)


class OtherEncoder(LetterEncoder):
    """Encoder of letters under another signature."""

    signature = "letters-2"


def taste_examples(
    users: int = 6, queries: int = 3, candidates: int = 8, *, seed: int = 0, shared: bool = False
) -> Candidates:
    """Users with known tastes for letters, queries of differing difficulty, noisy utilities.

    Args:
        users: number of users.
        queries: queries of each user.
        candidates: texts of each query.
        seed: of everything random.
        shared: whether all queries hold the same texts and no inputs, as where people rate statements.
    """
    draw = rng.derive(seed, "taste", users, queries, candidates)
    general = draw.normal(size=len(LETTERS))
    tastes = general + draw.normal(size=(users, len(LETTERS)))
    pool = ["".join(draw.choice(list(LETTERS + "  "), size=draw.integers(8, 40))) for _ in range(400)]
    fixed = draw.choice(400, size=candidates, replace=False)
    n = users * queries * candidates
    query = np.repeat(np.arange(users * queries), candidates)
    user = query // queries
    text = np.tile(fixed, users * queries) if shared else draw.choice(400, size=n)
    vectors = LetterEncoder().encode(pool).astype(np.float64)
    level = draw.normal(size=users * queries)
    utility = np.sum(vectors[text] * tastes[user], axis=1) + level[query] + 0.3 * draw.normal(size=n)
    return Candidates(
        users=tuple(f"u{code}" for code in range(users)),
        queries=tuple(f"q{code}" for code in range(users * queries)),
        inputs=tuple("" if shared else f"write about {LETTERS[code % 16]}" for code in range(users * queries)),
        texts=tuple(pool),
        user=user,
        query=query,
        text=text,
        candidate=np.tile(np.arange(candidates), users * queries),
        utility=utility,
        logprob=-draw.exponential(size=n) * 10,
    )


class RewardModelTests:
    """Conformance tests of a reward model: what holds for every one."""

    model: ClassVar[type[RewardModel]]
    options: ClassVar[dict[str, Any]] = {}
    bare: ClassVar[bool] = True
    """Whether texts alone can be scored; not where each needs its log-probability."""
    close: ClassVar[float] = 1e-12
    """Absolute difference by which a score may depend on the others of its batch, as in single precision."""
    less_doubt: ClassVar[bool] = True
    """Whether further labels make ``std_mean`` smaller; not where it is the disagreement of several fits."""

    def examples(self, users: int = 6, queries: int = 3, candidates: int = 8, **how: Any) -> Candidates:  # noqa: ANN401
        """Make the rows that tests fit on and predict for; a kind that pays for each row overrides it with fewer."""
        return taste_examples(users, queries, candidates, **how)

    def build(self, **options: object) -> RewardModel:
        """An unfitted model on the tiny encoder."""
        encoder = LetterEncoder() if self.model.uses_encoder() else None
        return self.model(None, encoder=encoder, **{**self.options, **options})

    def reload(self, folder: Path, user: str | None = None) -> RewardModel:
        """The model saved in a folder, perhaps for one user."""
        return self.model.load(folder, encoder=LetterEncoder() if self.model.uses_encoder() else None, user=user)

    def needs_bare_texts(self) -> None:
        """Skip what scores texts of which nothing else is known."""
        if not self.bare:
            pytest.skip("each text needs its log-probability")

    def test_shapes_and_finite(self) -> None:
        examples = self.examples()
        estimate = self.build().fit(examples, rng=0).predict(examples)
        assert estimate.mean.shape == (len(examples),)
        assert np.all(np.isfinite(estimate.mean))
        if estimate.std is not None:
            assert estimate.std.shape == (len(examples),)
            assert np.all(np.isfinite(estimate.std) & (estimate.std > 0))
        if estimate.std_mean is not None:
            assert estimate.std is not None
            assert np.all((estimate.std_mean >= 0) & (estimate.std_mean <= estimate.std))

    def test_same_seed_same_bits(self) -> None:
        examples = self.examples(seed=1)
        first = self.build().fit(examples, rng=3).predict(examples)
        second = self.build().fit(examples, rng=3).predict(examples)
        assert_same(first, second)

    def test_save_and_load_same_bits(self, tmp_path: Path) -> None:
        examples = self.examples(seed=2)
        model = self.build().fit(examples, rng=0)
        digest = model.save(tmp_path / "model")
        loaded = self.reload(tmp_path / "model")
        assert_same(model.predict(examples), loaded.predict(examples))
        assert loaded.config == model.config
        assert loaded.save(tmp_path / "again") == digest

    def test_one_user_loaded_alone_is_served_the_same(self, tmp_path: Path) -> None:
        examples = self.examples(seed=13)
        model = self.build().fit(examples, rng=0)
        model.save(tmp_path / "model")
        for user in ("u2", "nobody"):
            mine = replace(examples.take(examples.user == 2), users=("u0", "u1", user))
            alone = self.reload(tmp_path / "model", user=user)
            assert_same(alone.predict(mine), model.predict(mine))
            assert alone.notes == model.notes
        with pytest.raises(InputError, match="'nobody', for whom it was loaded"):
            alone.predict(examples)
        with pytest.raises(BestforError, match="saved whole"):
            alone.save(tmp_path / "part")

    def test_who_abstains_is_served_like_a_stranger(self, tmp_path: Path) -> None:
        examples = self.examples(seed=14)
        model = self.build().fit(examples, rng=0)
        assert set(model.abstained) <= set(examples.users)
        assert any("without a part of their own" in note for note in model.notes) == bool(model.abstained)
        model.save(tmp_path / "model")
        assert self.reload(tmp_path / "model").abstained == model.abstained
        for user in model.abstained:
            mine = examples.take(examples.user == examples.users.index(user))
            stranger = replace(mine, users=tuple(f"new {name}" for name in mine.users))
            assert_same(model.predict(mine), model.predict(stranger))

    def test_score_is_what_predict_gives(self) -> None:
        self.needs_bare_texts()
        examples = self.examples(users=4, seed=16)
        model = self.build().fit(examples.take(examples.user < 3), rng=0)
        asked = as_requests(examples)
        expected, found = model.predict(Candidates.of(*asked)), model.score_many(*asked)
        for name in ("mean", "std", "std_mean"):
            values = [getattr(scores, name) for scores in found]
            if getattr(expected, name) is not None:
                one, other = np.concatenate(values), getattr(expected, name)
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=self.close, equal_nan=True)
        for user, scores in zip(asked[0], found, strict=True):
            assert scores.served == model.served(user)
            assert scores.served == "everybody" or user != "u3"
            if scores.cov_mean is not None:
                assert scores.std_mean is not None
                np.testing.assert_allclose(np.diag(scores.cov_mean), scores.std_mean**2, rtol=1e-6, atol=1e-12)
                np.testing.assert_array_equal(scores.cov_mean, scores.cov_mean.T)
        alone = model.score(asked[0][0], asked[1][0], asked[2][0])
        np.testing.assert_allclose(alone.mean, found[0].mean, rtol=1e-8, atol=self.close, equal_nan=True)
        with pytest.raises(InputError, match="no texts"):
            model.score("u0", "", [])

    def test_a_person_without_labels_is_the_model(self) -> None:
        self.needs_bare_texts()
        examples = self.examples(users=4, seed=17)
        model = self.build().fit(examples.take(examples.user < 3), rng=0)
        users, prompts, texts = as_requests(examples)
        for user in dict.fromkeys(users):
            mine = [place for place, one in enumerate(users) if one == user]
            asked = [prompts[place] for place in mine], [texts[place] for place in mine]
            expected = model.score_many([user] * len(mine), *asked)
            person = model.person(user, Labels())
            assert (person.user, person.labels_count, person.served) == (user, 0, model.served(user))
            for one, other in zip(person.score_many(*asked), expected, strict=True):
                assert_close(one, other)

    def test_order_and_portions_of_labels_change_nothing(self) -> None:
        self.needs_bare_texts()
        examples = self.examples(users=5, queries=4, seed=18)
        model = self.build().fit(examples.take((examples.user < 3) & (examples.query % 4 < 2)), rng=0)
        draw = rng.derive(1, "order")
        for user in ("u0", "u4"):
            labels, (prompt, texts) = said(examples, user), asked_of(examples, user)
            person, before = model.person(user, labels), model.score(user, prompt, texts)
            assert person.labels_count == len(labels)
            found = person.score(prompt, texts)
            if not model.learns:
                assert_close(found, before)
                assert any("does not learn" in note for note in person.notes)
                continue
            mixed = Labels()
            for place in draw.permutation(len(labels.rated)):
                mixed += Labels(rated=(labels.rated[place],))
            for place in draw.permutation(len(labels.preferred)):
                mixed = Labels(preferred=(labels.preferred[place],)) + mixed
            assert_close(found, model.person(user, mixed).score(prompt, texts))
            assert np.all(np.isfinite(found.mean))
            assert person.served == "abstained" or np.any(found.mean != before.mean)
            if self.less_doubt and found.std_mean is not None and person.served == "own":
                assert before.std_mean is not None
                assert before.served == "abstained" or found.std_mean.mean() < before.std_mean.mean()

    def test_labels_are_checked(self) -> None:
        model = self.build().fit(self.examples(users=3, queries=2), rng=0)
        wrong = (
            (Labels(rated=(Rated("", "a", np.nan),)), "finite utilities"),
            (Labels(rated=(Rated("", "a", 1.0, 0.0),)), "weight 0"),
            (Labels(preferred=(Preferred("", "a", "a"),)), "preferred to itself"),
        )
        for labels, message in wrong:
            with pytest.raises(InputError, match=message):
                model.person("u0", labels)
        with pytest.raises(BestforError, match="after fit"):
            self.build().person("u0", Labels())

    def test_nothing_changes_a_fitted_model(self) -> None:
        self.needs_bare_texts()
        examples = self.examples(users=4, seed=19)
        model = self.build().fit(examples.take(examples.user < 3), rng=0)
        before = fingerprint(model)
        model.predict(examples)
        model.score_many(*as_requests(examples))
        for user in ("u0", "u3"):
            model.person(user, said(examples, user)).score(*asked_of(examples, user))
        assert fingerprint(model) == before

    def test_threads_share_a_model(self) -> None:
        self.needs_bare_texts()
        examples = self.examples(users=4, seed=20)
        model = self.build().fit(examples.take(examples.user < 3), rng=0)
        parts = [examples.take(examples.user == code) for code in range(4)] * 2
        users = list(examples.users) * 2

        def person(user: str) -> Scores:
            return model.person(user, said(examples, user)).score(*asked_of(examples, user))

        expected, alone = [model.predict(part) for part in parts], [person(user) for user in users]
        with ThreadPoolExecutor(4) as threads:
            found, together = list(threads.map(model.predict, parts)), list(threads.map(person, users))
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
            assert model.partial or one.notes == other.notes
        for one, other in zip(together, alone, strict=True):
            assert_close(one, other)

    def test_order_of_rows_changes_nothing(self) -> None:
        examples = self.examples(seed=4)
        order = rng.derive(0, "order").permutation(len(examples))
        first = self.build().fit(examples, rng=0).predict(examples)
        second = self.build().fit(examples.take(order), rng=0).predict(examples)
        assert_same(first, second)
        again = self.build().fit(examples, rng=0).predict(examples.take(order))
        np.testing.assert_array_equal(first.mean[order], again.mean)

    def test_texts_that_no_row_uses_change_nothing(self) -> None:
        examples = self.examples(seed=5)
        wider = replace(examples, texts=(*examples.texts, "a text of the test part!!", "another: 1, 2, 3?"))
        assert_same(
            self.build().fit(examples, rng=0).predict(examples), self.build().fit(wider, rng=0).predict(examples)
        )

    def test_utilities_are_not_read_by_predict(self) -> None:
        examples = self.examples(seed=6)
        model = self.build().fit(examples, rng=0)
        blind = replace(examples, utility=np.full(len(examples), np.nan))
        assert_same(model.predict(examples), model.predict(blind))

    def test_unknown_users_and_queries(self) -> None:
        examples = self.examples(users=6, seed=7)
        model = self.build().fit(examples.take(examples.user < 4), rng=0)
        estimate = model.predict(examples)
        assert np.all(np.isfinite(estimate.mean))

    def test_one_label_and_one_user(self) -> None:
        examples = self.examples(seed=8)
        for rows in (np.arange(1), np.arange(2), np.flatnonzero(examples.user == 0)):
            estimate = self.build().fit(examples.take(rows), rng=0).predict(examples)
            assert np.all(np.isfinite(estimate.mean))

    def test_constant_utilities(self) -> None:
        examples = self.examples(seed=9)
        flat = replace(examples, utility=np.ones(len(examples)))
        estimate = self.build().fit(flat, rng=0).predict(flat)
        assert np.all(np.isfinite(estimate.mean))

    def test_shared_texts(self) -> None:
        examples = self.examples(seed=10, shared=True, queries=1, candidates=20)
        estimate = self.build().fit(examples, rng=0).predict(examples)
        assert np.all(np.isfinite(estimate.mean))

    def test_no_rows_to_predict(self) -> None:
        examples = self.examples(seed=11)
        estimate = self.build().fit(examples, rng=0).predict(examples.take(np.zeros(0, dtype=np.int64)))
        assert estimate.mean.shape == (0,)

    def test_refuses_missing_utilities(self) -> None:
        examples = self.examples(seed=12)
        holes = examples.utility.copy()
        holes[3] = np.nan
        with pytest.raises(InputError, match="finite utilities"):
            self.build().fit(replace(examples, utility=holes), rng=0)
        with pytest.raises(InputError, match="labelled candidates"):
            self.build().fit(examples.take(np.zeros(0, dtype=np.int64)), rng=0)

    def test_refuses_to_predict_before_fit(self) -> None:
        with pytest.raises(BestforError, match="after fit"):
            self.build().predict(self.examples())

    def test_names_the_nearest_key(self) -> None:
        if not self.model.Config.model_fields:
            with pytest.raises(InputError, match="unknown key 'x'"):
                self.build(x=1)
            return
        known = next(iter(self.model.Config.model_fields))
        with pytest.raises(InputError, match=f"did you mean it|one of .*{known}"):
            self.build(**{f"{known}s": 1})

    def test_refuses_damaged_files(self, tmp_path: Path) -> None:
        self.build().fit(self.examples(), rng=0).save(tmp_path)
        weights = next(tmp_path.glob("*.safetensors"))
        payload = weights.read_bytes()
        weights.write_bytes(payload[:-1] + bytes([payload[-1] ^ 1]))
        with pytest.raises(InputError, match="damaged"):
            self.reload(tmp_path)

    def test_refuses_another_encoder(self, tmp_path: Path) -> None:
        examples = self.examples()
        self.build().fit(examples, rng=0).save(tmp_path)
        if self.model.uses_encoder() and getattr(self.build().config, "components", 1) > 0:
            with pytest.raises(InputError, match="letters-2"):
                self.model.load(tmp_path, encoder=OtherEncoder())

    def test_refuses_foreign_files_in_one_line(self, tmp_path: Path) -> None:
        examples = self.examples(users=3, queries=2)
        self.build().fit(examples, rng=0).save(tmp_path / "model")
        stored = artifacts.read(tmp_path / "model")
        for number, (config, arrays) in enumerate(foreign(stored)):
            folder = tmp_path / f"foreign {number}"
            try:
                artifacts.write(folder, config, arrays, stored.users)
            except (TypeError, ValueError):
                continue  # rows that are not one a user are not even written
            with pytest.raises(InputError) as caught:
                self.reload(folder)
            assert "\n" not in str(caught.value), str(caught.value)


def foreign(stored: artifacts.Artifact) -> Iterator[tuple[dict[str, Any], artifacts.Arrays]]:
    """Spoil a stored model: without an array or a value, or with one of another shape or without sense."""
    for name, values in stored.arrays.items():
        others = {key: array for key, array in stored.arrays.items() if key != name}
        optional = name in ("user.abstained", "nothing") or name.startswith("user.rows")
        if not optional:
            yield stored.config, others
            yield stored.config, {**others, name: values[None]}
        if values.dtype.kind == "f" and values.size and not optional:
            yield stored.config, {**others, name: np.full_like(values, np.nan)}
    for name in stored.config["state"]:
        state = {key: value for key, value in stored.config["state"].items() if key != name}
        yield {**stored.config, "state": state}, stored.arrays
        yield {**stored.config, "state": {**state, name: None}}, stored.arrays
    yield {**stored.config, "kind": "another"}, stored.arrays
    yield {**stored.config, "config": {"unheard of": 1}}, stored.arrays


def assert_same(first: Any, second: Any) -> None:  # noqa: ANN401 - estimates of any model
    """Two estimates have the same bits."""
    np.testing.assert_array_equal(first.mean, second.mean)
    for name in ("std", "std_mean"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)


def as_requests(examples: Candidates) -> tuple[list[str], list[str], list[list[str]]]:
    """Users, prompts and texts of a data set's queries, in the order of their codes."""
    users, prompts, texts = [], [], []
    for code in np.unique(examples.query):
        rows = np.flatnonzero(examples.query == code)
        users.append(examples.users[examples.user[rows[0]]])
        prompts.append(examples.inputs[code])
        texts.append([examples.texts[text] for text in examples.text[rows]])
    return users, prompts, texts


def said(examples: Candidates, user: str) -> Labels:
    """Labels by a user of a data set: ratings of the first candidates of each query, preferences between the others."""
    rated, preferred = [], []
    for code in np.unique(examples.query[examples.user == examples.users.index(user)]):
        rows = np.flatnonzero(examples.query == code)
        prompt, texts = examples.inputs[code], [examples.texts[text] for text in examples.text[rows]]
        utility, half = examples.utility[rows].tolist(), (len(rows) + 1) // 2
        rated += [Rated(prompt, texts[place], utility[place]) for place in range(half)]
        for place in range(half, len(rows) - 1):
            better, worse = (place, place + 1) if utility[place] >= utility[place + 1] else (place + 1, place)
            preferred += [Preferred(prompt, texts[better], texts[worse])] if texts[better] != texts[worse] else []
    return Labels(tuple(rated), tuple(preferred))


def labels_of(examples: Candidates, user: str) -> Labels:
    """Ratings of all of a user's rows."""
    mine = np.flatnonzero(examples.user == examples.users.index(user))
    names = [(examples.inputs[examples.query[row]], examples.texts[examples.text[row]]) for row in mine]
    utilities = examples.utility[mine].tolist()
    return Labels(tuple(Rated(*name, utility) for name, utility in zip(names, utilities, strict=True)))


def asked_of(examples: Candidates, user: str) -> tuple[str, list[str]]:
    """Prompt and texts of a user's first query."""
    users, prompts, texts = as_requests(examples)
    place = users.index(user)
    return prompts[place], texts[place]


def fingerprint(model: RewardModel) -> str:
    """Hash of everything that a fitted model would store, and of its notes."""
    state, arrays = model._state()
    said = json.dumps([state, model.notes, model.abstained, model._users]).encode()
    return hash_parts(
        [said, *(name.encode() + np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays))]
    )


def assert_close(first: Scores, second: Scores) -> None:
    """Two requests were scored alike, up to a relative difference of 1e-9."""
    assert first.served == second.served
    for name in ("mean", "std", "std_mean", "cov_mean"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)
