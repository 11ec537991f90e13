"""Nearness to what users wrote, and that nothing else reaches the features: no reference, later item or test text."""

from dataclasses import replace

import numpy as np
import pytest

from bestfor.data.candidates import History
from bestfor.rewards import build
from bestfor.rewards.features import FeatureConfig, fit_space, history_features, restore_space
from bestfor.testing.rewards import LetterEncoder, taste_examples

ENCODER = LetterEncoder()
CONFIG = FeatureConfig(encoder="letters", components=6, history=True, input_components=2)
LATER = ("this came later", "and this is the reference of the third query")


def examples_of():
    """Three users; their first two queries are to fit on, the third is the test query. A query's reference is the item
    that stands at its place in the history."""
    examples = taste_examples(users=3, queries=3, candidates=6)
    texts = {f"u{code}": tuple(f"{letter * 3}b{place}" for place in range(3)) for code, letter in enumerate("aco")}
    return replace(examples, history=History(texts, {f"q{code}": code % 3 for code in range(9)}))


def split(examples):
    return examples.take(examples.query % 3 < 2), examples.take(examples.query % 3 == 2)


def with_texts(examples, change):
    texts = {user: change(texts) for user, texts in examples.history.texts.items()}
    return replace(examples, history=replace(examples.history, texts=texts))


def test_nearness_by_brute_force():
    examples = examples_of()
    found = history_features(examples, ENCODER, examples.text, examples.query)
    for row in range(len(examples)):
        earlier = examples.history.texts[examples.users[examples.user[row]]][: examples.query[row] % 3]
        if not earlier:
            assert np.isnan(found[row]).all()
            continue
        text = ENCODER.encode([examples.texts[examples.text[row]]])[0].astype(float)
        cosines = [float(text @ vector) for vector in ENCODER.encode(earlier).astype(float)]
        np.testing.assert_allclose(found[row], [max(cosines), np.mean(cosines)], atol=1e-6)


def leaks(examples):
    """Ways in which what must not be seen differs."""
    test = examples.query % 3 == 2
    utility = np.where(test, 1e6 * np.arange(len(test)), examples.utility)
    seen = set(examples.text[~test])
    texts = tuple(text if code in seen else f"{text} leaked{code}" for code, text in enumerate(examples.texts))
    inputs = tuple("leaked" if code % 3 == 2 else asked for code, asked in enumerate(examples.inputs))
    return {
        "references of fit and test queries": with_texts(examples, lambda own: (own[0], *LATER)),
        "utilities of test candidates": replace(examples, utility=utility),
        "test texts": replace(examples, texts=texts),
        "test inputs": replace(examples, inputs=inputs),
    }


@pytest.mark.parametrize("leak", list(leaks(examples_of())))
def test_features_of_fit_rows_do_not_see(leak):
    found = []
    for version in (examples_of(), leaks(examples_of())[leak]):
        # the second fit query may see the first item only, so all after it may differ
        fit = split(version)[0]
        found.append(fit_space(CONFIG, fit, ENCODER).design(fit, ENCODER).rows())
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("kind", ["pooled", "ridge", "hierarchical", "similarity"])
def test_predictions_do_not_see_references_or_test_utilities(kind):
    examples = examples_of()
    options = {} if kind == "similarity" else {"history": True, "components": 6}
    found = []
    reference = with_texts(examples, lambda own: (*own[:2], "the test query's own reference"))
    for version in (examples, reference, leaks(examples)["utilities of test candidates"]):
        fit, test = split(version)
        found.append(build(kind, encoder=ENCODER, **options).fit(fit, rng=0).predict(test).mean)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_first_query_of_a_user_is_neutral():
    examples = examples_of()
    space = fit_space(CONFIG, split(examples)[0], ENCODER)
    values = space.design(examples, ENCODER).rows()
    np.testing.assert_array_equal(values[examples.query % 3 == 0, -2:], 0)
    assert np.abs(values[examples.query % 3 == 1, -2:]).max() > 0.1
    unknown = space.design(replace(examples, history=None), ENCODER).rows()
    np.testing.assert_array_equal(unknown[:, -2:], 0)


def test_columns_are_named_and_a_foreign_list_is_refused():
    examples = examples_of()
    space = fit_space(CONFIG, examples, ENCODER)
    described = space.describe()
    assert len(described["columns"]) == len(set(described["columns"])) == space.size
    assert described["columns"][:6] == [f"embedding.{index}" for index in range(6)]
    assert described["columns"][-6:] == [
        "input.0",
        "input.1",
        "product.0",
        "product.1",
        "history.nearest",
        "history.mean",
    ]
    again = restore_space(described, space.arrays())
    np.testing.assert_array_equal(again.design(examples, ENCODER).values, space.design(examples, ENCODER).values)
    described["columns"] = [*described["columns"][:-1], "history.median"]
    with pytest.raises(Exception, match=r"history\.median"):
        restore_space(described, space.arrays())


def test_products_are_those_of_text_and_input():
    examples = examples_of()
    space = fit_space(CONFIG.model_copy(update={"history": False, "style": False, "answer": False}), examples, ENCODER)
    design = space.design(examples, ENCODER)
    values = design.values[:, 6:] * np.where(np.isfinite(space.width), space.width, 0) + space.shift
    np.testing.assert_allclose(values[:, 2:], values[:, :2] * design.values[:, :2], atol=1e-9)
