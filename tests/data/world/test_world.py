import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor import rng
from bestfor.data import schema
from bestfor.data.world import (
    World,
    build,
    build_steady,
    grammar,
    history_length,
    noise_std,
    noisy,
    taste,
    taste_of,
    true_utility,
    user_id,
)
from bestfor.errors import InputError

DEFAULT_SHA256 = "161a7af6ee4a3213b5d22151e04e6375226b279d46e1e6947a78ba4f7a56f37e"


@pytest.fixture(scope="module")
def frozen():
    return build(World())


def texts_of(task, queries, each, name="texts"):
    for index in range(queries):
        draw = rng.derive(3, name, task, index)
        facts = grammar.draw_facts(task, rng=draw)
        yield facts, [grammar.write(facts, rng=draw) for _ in range(each)]


def test_the_default_world_is_frozen(frozen):
    assert frozen.sha256 == DEFAULT_SHA256


def test_tables_follow_the_schemas_and_queries_come_later(frozen):
    assert frozen.histories.schema == schema.HISTORIES
    assert frozen.queries.schema == schema.QUERIES
    assert set(frozen.queries.column("split").to_pylist()) == {"test"}
    latest = {}
    for row in frozen.histories.to_pylist():
        assert row["timestamp"] > latest.get(row["user_id"], 0)
        latest[row["user_id"]] = row["timestamp"]
    rows = frozen.queries.to_pylist()
    assert len(rows) == 60 * 4
    assert all(row["timestamp"] > latest[row["user_id"]] for row in rows)
    seen = set(frozen.histories.column("item_id").to_pylist())
    assert not seen & set(frozen.queries.column("query_id").to_pylist())


def test_a_user_does_not_depend_on_the_others():
    small, large = build(World(users=2, queries=1)), build(World(users=5, queries=1))
    assert small.histories.to_pylist() == large.histories.slice(0, small.histories.num_rows).to_pylist()
    assert build(World(seed=1, users=2, queries=1)).sha256 != small.sha256 == build(World(users=2, queries=1)).sha256


def test_histories_are_lopsided_between_five_and_sixty():
    config = World(users=2000)
    lengths = np.array([history_length(config, user_id(index)) for index in range(2000)])
    assert lengths.min() == 5
    assert lengths.max() == 60
    assert np.median(lengths) < 11
    # Pareto: P(length = 60) = (5/60)^1.1 = 0.065.
    assert abs((lengths == 60).mean() - (5 / 60) ** 1.1) < 0.02


@pytest.mark.parametrize("task", ["headline", "review"])
def test_thirty_samples_are_rarely_equal(task):
    distinct = [len(set(texts)) for _, texts in texts_of(task, 60, 30)]
    assert np.mean(distinct) > 29


@pytest.mark.parametrize("task", ["headline", "review"])
def test_the_grammar_is_faithful_and_fluent(task):
    scores = [taste.fidelity(text, facts) for facts, texts in texts_of(task, 60, 20) for text in texts]
    # Short texts may leave out one core fact; nothing else costs the grammar anything.
    assert set(np.round(scores, 6)) <= {1.0, 0.5, round(2 / 3, 6)}
    assert np.mean(scores) > 0.95


def test_what_users_write_reveals_their_taste(frozen):
    config, gains = frozen.config, []
    for row in frozen.queries.to_pylist():
        draw = rng.derive(5, row["query_id"])
        texts = [grammar.write(grammar.parse(row["input"]), rng=draw) for _ in range(8)]
        values = true_utility(config, row["user_id"], row["input"], [row["reference"], *texts])
        gains.append(values[0] - values[1:].mean())
    assert np.mean(gains) > 0.2


@pytest.mark.parametrize(
    ("axis", "less", "more"),
    [
        (
            "brevity",
            "Oakmere hosts town harvest fair with stalls and music until evening, with tea and cake for all, doors "
            "open early, entry is free",
            "Oakmere hosts harvest fair",
        ),
        ("formality", "Folks rock up to Oakmere harvest fair", "Residents convene for municipal Oakmere harvest fair"),
        ("enthusiasm", "Oakmere hosts quiet harvest fair", "Oakmere hosts glorious harvest fair!"),
        ("humour", "Oakmere hosts harvest fair", "Oakmere hosts harvest fair, one goose demands a refund"),
        ("concreteness", "Oakmere hosts harvest fair sometime", "Oakmere hosts harvest fair on Friday for 340 guests"),
    ],
)
def test_utility_responds_to_each_axis(axis, less, more):
    place = taste.AXES.index(axis)
    facts = grammar.parse("headline | place: Oakmere | event: harvest fair | count: 340 | day: Friday")
    low, high = taste.style(less, "headline"), taste.style(more, "headline")
    assert high[place] - low[place] > 0.5
    weights = np.eye(5)[place]
    assert taste.utility(more, facts, weights) > taste.utility(less, facts, weights) + 0.1
    assert taste.utility(more, facts, -weights) < taste.utility(less, facts, -weights) - 0.1


def test_utility_is_the_stated_formula():
    facts = grammar.parse("headline | place: Oakmere | event: harvest fair | count: 340 | day: Friday")
    text = "Oakmere hosts harvest fair"
    weights = np.array([0.5, 0.0, 0.0, -0.2, 0.0])
    # Four words: tanh((14 - 4)/5); no funny word: tanh(-1).
    pleased = np.tanh(0.5 * np.tanh(2.0) - 0.2 * np.tanh(-1.0))
    assert taste.utility(text, facts, weights) == pytest.approx(0.4 + 0.6 * pleased, abs=1e-12)
    away = "Fair"
    assert taste.utility(away, facts, weights) == pytest.approx(-0.4, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Oakmere hosts harvest fair", 1.0),
        ("Harvest fair returns", 0.5),
        ("Saltby and Oakmere host harvest fair", 0.6),
        ("Oakmere hosts harvest fair on Monday", 0.6),
        ("Oakmere hosts harvest fair for 20 guests", 0.6),
        ("Oakmere hosts hosts harvest fair", 0.5),
        ("Oakmere hosts harvest fair,", 0.5),
        ("", 0.0),
        ("Oakmere harvest fair zzq qzz", 1.0 - (0.4 - 0.2) / 0.8),
    ],
)
def test_fidelity_counts_faults(text, expected):
    facts = grammar.parse("headline | place: Oakmere | event: harvest fair | count: 340 | day: Friday")
    assert taste.fidelity(text, facts) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80), st.sampled_from(["u0000", "u0007"]))
def test_any_text_has_a_bounded_utility(text, user):
    config = World()
    input = "review | thing: kettle | good: grip | bad: lid | price: 35 | weeks: 6"
    first, again = true_utility(config, user, input, [text, text])
    assert first == again
    assert -1 <= first <= 1


def test_silent_users_have_flat_utilities():
    config = World(users=400)
    norms = np.array([np.linalg.norm(taste_of(config, user_id(index))) for index in range(400)])
    silent = norms < 0.1
    assert abs(silent.mean() - 0.15) < 0.05
    np.testing.assert_allclose(norms[~silent], taste.TASTE_NORM)
    spread = {True: [], False: []}
    for index in range(60):
        for facts, texts in texts_of("headline", 1, 30):
            fair = [text for text in texts if taste.fidelity(text, facts) == 1.0]
            values = true_utility(config, user_id(index), facts.render(), fair)
            spread[bool(silent[index])].append(values.std())
    assert max(spread[True]) < 0.02
    assert np.mean(spread[False]) > 0.2


def test_tastes_point_everywhere():
    config = World(users=500, silent=0.0)
    tastes = np.array([taste_of(config, user_id(index)) for index in range(500)])
    assert (tastes.std(axis=0) > 0.25).all()
    assert (np.abs(tastes.mean(axis=0)) < 0.2).all()


@pytest.mark.parametrize("noise", ["differing", "equal", "outliers"])
@pytest.mark.parametrize("task", ["headline", "review"])
def test_noise_regimes_share_their_average_variance(noise, task):
    config = World(noise=noise, task=task)
    errors, variances = [], []
    for facts, texts in texts_of(task, 150, 20, "noise"):
        args = (config, "u0000", facts.render(), texts)
        errors.append(noisy(*args) - true_utility(*args))
        variances.append(noise_std(*args) ** 2)
    errors, variances = np.concatenate(errors), np.concatenate(variances)
    assert np.mean(variances) == pytest.approx(0.09, rel=0.1)
    scaled = errors / np.sqrt(variances)
    assert abs(scaled.mean()) < 0.06
    assert scaled.var() == pytest.approx(1.0, rel=0.1)
    if noise == "equal":
        assert np.ptp(variances) == 0
    if noise == "outliers":
        assert np.mean(variances > 0.09) == pytest.approx(0.2, abs=0.03)
        assert variances.max() / variances.min() == pytest.approx(25)
    if noise == "differing":
        assert np.percentile(variances, 90) / np.percentile(variances, 10) > 5


def test_long_and_funny_texts_are_noisier():
    short = "Oakmere hosts harvest fair"
    funny = "Oakmere hosts harvest fair, the mayor's goose demands a refund"
    facts = "headline | place: Oakmere | event: harvest fair | count: 340 | day: Friday"
    plain, joke = noise_std(World(), "u0000", facts, [short, funny])
    assert joke > 2 * plain


def test_noise_is_drawn_once_for_a_text():
    facts = "headline | place: Oakmere | event: harvest fair | count: 340 | day: Friday"
    texts = ["Oakmere hosts harvest fair", "Harvest fair opens in Oakmere"]
    forward = noisy(World(), "u0001", facts, texts)
    np.testing.assert_array_equal(forward, noisy(World(), "u0001", facts, texts[::-1])[::-1])
    assert forward[0] != noisy(World(seed=1), "u0001", facts, texts)[0]


def test_mixed_worlds_hold_both_tasks():
    inputs = build(World(task="mixed", users=4)).histories.column("input").to_pylist()
    share = np.mean([grammar.parse(text).task == "review" for text in inputs])
    assert 0.3 < share < 0.7


def test_steady_users_keep_to_one_mood():
    data = build_steady(World(users=30, items=(8, 12)))
    assert data.queries.num_rows == 0
    assert data.histories.schema == schema.HISTORIES
    styles = {}
    for row in data.histories.to_pylist():
        styles.setdefault(row["user_id"], []).append(taste.style(row["output"], "headline"))
    within = np.mean([np.var(rows, axis=0, ddof=1) for rows in styles.values()], axis=0)
    overall = np.var(np.concatenate(list(styles.values())), axis=0)
    assert (within < 0.7 * overall).all()
    assert within[taste.AXES.index("formality")] < 0.3 * overall[taste.AXES.index("formality")]


def test_a_mood_given_is_the_mood_written():
    facts = grammar.draw_facts("headline", rng=rng.derive(0, "facts"))
    moods = [grammar.draw_mood(rng=rng.derive(0, "mood", index)) for index in range(300)]
    assert len(set(moods)) > 80
    funny = grammar.Mood("casual", "keen", "full", "long", True)
    texts = [grammar.write(facts, rng=rng.derive(0, "text", index), mood=funny) for index in range(20)]
    assert min(taste.style(text, "headline")[taste.AXES.index("humour")] for text in texts) >= 0
    drawn = rng.derive(0, "same")
    assert grammar.write(facts, rng=rng.derive(0, "same")) == grammar.write(facts, rng=drawn)


@pytest.mark.parametrize("task", ["headline", "review"])
def test_facts_survive_their_rendering(task):
    for index in range(50):
        facts = grammar.draw_facts(task, rng=rng.derive(0, "facts", index))
        assert grammar.parse(facts.render()) == facts


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: World(noise="loud"), "world.noise: found 'loud'"),
        (lambda: World(task="headlines"), "'headline' \\(did you mean it\\?\\)"),
        (lambda: World(items=(6, 5)), "world.items"),
        (lambda: World(users=0), "world.users: found 0; expected 1 or more"),
        (lambda: World(silent=2.0), "0 <= silent <= 1"),
        (lambda: taste_of(World(), "u0060"), "expected u0000 to u0059"),
        (lambda: taste_of(World(), "someone"), "found 'someone'"),
        (lambda: grammar.parse("poem | of: rain"), "found 'poem"),
        (lambda: grammar.parse("headline | place: Oakmere"), "the facts place, event, count, day"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
