"""Warnings about data that mislead, and the order of rows, which must not matter."""

import numpy as np
import pytest

from bestfor.diagnostics import Settings, diagnose_arrays
from bestfor.runs import table as tables
from bestfor.runs.table import diagnose_table
from support.cases import case


def votes(seed, users=12, queries=2, size=20):
    """Few-valued rewards and utilities: nearly every pick ties."""
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(users * queries), size)
    utility = rng.integers(-1, 2, len(query)).astype(float)
    return query // queries, query, utility, np.round(0.3 * utility + rng.standard_normal(len(query)))


def sentences(diagnosis, name="x"):
    model = diagnosis.models[name]
    return " ".join([*model.findings, *model.notes])


def diagnosed(user, query, utility, reward, **options):
    return diagnose_arrays(user, query, utility, {"x": reward}, Settings(**options))


def test_the_order_of_rows_changes_nothing_at_all():
    user, query, utility, reward = votes(1)
    order = np.random.default_rng(2).permutation(len(user))
    signs = np.where(np.random.default_rng(3).random(len(user)) < 0.5, 1.0, -1.0)
    minus = np.where(utility == 0, signs * 0.0, utility)  # -0 is 0
    one, two = (
        diagnosed(*columns).to_dict()
        for columns in ((user, query, utility, reward), (user[order], query[order], minus[order], reward[order]))
    )
    assert one == two
    assert one["models"]["x"]["suspects"]


def test_the_table_in_another_order():
    one, two = ({**case(name)} for name in ("order_a", "order_b"))
    found = [
        diagnosed(t["user"], t["query"], np.array(t["utility"], float), np.array(t["reward"], float)).to_dict()
        for t in (one, two)
    ]
    assert found[0] == found[1]


def test_a_pick_that_ties_counts_with_the_mean_of_the_tied():
    # The two highest rewards tie, with utilities 0 and 3: their mean is the pool's mean, so the pick is not worse.
    reward, utility = np.array([2.0, 2, 1, 1, 0]), np.array([0.0, 3, 2, 2, 0.5])
    user = np.repeat(np.arange(8), 5)
    found = diagnosed(user, user, np.tile(utility, 8), np.tile(reward, 8))
    assert not found.models["x"].suspects
    utility[1] = 1.0
    found = diagnosed(user, user, np.tile(utility, 8), np.tile(reward, 8))
    assert len(found.models["x"].suspects) == 8


@pytest.mark.parametrize("mapped", [lambda u: u, np.exp, lambda u: 3 * u - 7])
def test_a_reward_that_orders_as_the_utility_is_a_leak_or_an_oracle(mapped):
    user, query, utility, _ = votes(4)
    utility = utility + np.random.default_rng(5).random(len(utility))
    found = diagnosed(user, query, utility, mapped(utility))
    assert found.models["x"].findings[0].startswith("The reward is the utility, or nearly: it captures 100.0%")
    assert "Nothing stands out" not in sentences(found)
    noisy = utility + 0.5 * np.random.default_rng(6).standard_normal(len(utility))
    assert "leak" not in sentences(diagnosed(user, query, utility, noisy))


def test_the_table_whose_reward_is_the_utility():
    t = case("ill_09_rewardisU")
    found = diagnosed(t["user"], t["query"], np.array(t["utility"], float), np.array(t["reward"], float))
    assert "leak or an oracle" in found.models["x"].findings[0]


def test_one_user_with_most_of_the_queries_decides_only_where_queries_weigh_the_same():
    rng = np.random.default_rng(7)
    query = np.repeat(np.arange(50), 8)
    user = np.where(query < 40, 0, query)
    utility = rng.standard_normal(len(query))
    reward = utility + rng.standard_normal(len(query))
    assert "User '0' has 80% of the queries" in sentences(diagnosed(user, query, utility, reward, averaging="query"))
    assert "User '0'" not in sentences(diagnosed(user, query, utility, reward))


def test_one_user_who_makes_most_of_the_gain_is_named():
    rng = np.random.default_rng(8)
    user = np.repeat(np.arange(10), 12)
    utility = rng.standard_normal(len(user)) * np.where(user == 3, 50.0, 1.0)
    reward = utility + rng.standard_normal(len(user))
    assert "User '3' alone makes" in sentences(diagnosed(user, user, utility, reward))
    assert "alone makes" not in sentences(diagnosed(user, user, utility / np.where(user == 3, 50.0, 1.0), reward))


@pytest.mark.parametrize("large", [False, True])
def test_rows_without_a_rating_that_lower_the_largest_n_are_named(tmp_path, monkeypatch, large):
    user, query, utility, reward = votes(9)
    lines = ["user,query,utility,reward"]
    for row in range(len(user)):
        missing = row % 20 == 0 and query[row] < 6  # six queries lose one of their twenty candidates
        lines.append(f"u{user[row]},q{query[row]},{'' if missing else utility[row]},{reward[row]}")
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(tables, "LARGE", 0 if large else 1 << 60)
    found = diagnose_table(path)
    (note,) = found.models["reward"].notes
    assert note.startswith("6 rows have no finite utility")
    assert "from 20 to 19" in note
    assert not diagnose_table(path, settings=Settings(n=[1, 4])).models["reward"].notes


def test_too_few_users_carry_no_interval_and_hear_what_would_be_enough():
    user, query, utility, _ = votes(10, users=4, queries=3)
    utility = utility + np.random.default_rng(11).standard_normal(len(utility))
    reward = utility + np.random.default_rng(12).standard_normal(len(utility))
    found = diagnosed(user, query, utility, reward)
    assert np.isnan(found.models["x"].gain.low[1:]).all()
    assert np.isnan(found.models["x"].captured.low).all()
    first = found.models["x"].findings[0]
    assert first.startswith("Too few users to tell: 4 users carry no interval that holds (5 are the fewest). About ")
    assert found.headline.startswith("Too few users to tell (4): Best-of-20 with `x` gains ")
    assert "does not pay" not in found.headline


def test_the_table_of_few_users():
    t = case("ill_08_fewusers")
    found = diagnosed(t["user"], t["query"], np.array(t["utility"], float), np.array(t["reward"], float))
    assert found.headline.startswith("Too few users to tell")
    assert "users like these would know captured" in found.models["x"].findings[0]


@pytest.mark.parametrize(("successes", "given"), [(2, False), (10, True)])
def test_rare_successes_of_few_users_carry_no_interval(successes, given):
    rng = np.random.default_rng(13)
    user = np.repeat(np.arange(16), 10)
    utility = np.zeros(len(user))
    utility[np.arange(successes) * 10] = 1.0
    found = diagnosed(user, user, utility, rng.standard_normal(len(user)), n=[1, 4]).models["x"]
    assert np.isfinite(found.gain.low[-1]) == given
    assert ("Too few users to tell" in " ".join(found.findings)) == (not given)


def test_one_user_with_most_of_the_queries_leaves_no_interval_where_queries_weigh_the_same():
    rng = np.random.default_rng(14)
    query = np.repeat(np.arange(95), 8)
    user = np.where(query < 76, 0, query)
    utility = rng.standard_normal(len(query))
    reward = utility + rng.standard_normal(len(query))
    assert np.isnan(diagnosed(user, query, utility, reward, averaging="query").models["x"].gain.low[-1])
    assert np.isfinite(diagnosed(user, query, utility, reward).models["x"].gain.low[-1])


def test_copies_are_counted_and_equal_marks_are_none():
    rng = np.random.default_rng(15)
    utility, reward = rng.standard_normal((2, 20 * 6))
    utility, reward = np.repeat(utility, 4), np.repeat(reward, 4)
    user = np.repeat(np.arange(20), 24)
    (note,) = diagnosed(user, user, utility, reward).models["x"].notes
    assert note.startswith("360 of 480 candidates are copies of another one of their query")
    for columns in (votes(16), (user, user, rng.standard_normal(480), reward), (user, user, utility, reward * 0)):
        assert not diagnosed(*columns).models["x"].notes


def test_the_table_of_copies():
    t = case("ill_11_duplicates")
    found = diagnosed(t["user"], t["query"], np.array(t["utility"], float), np.array(t["reward"], float))
    assert found.models["x"].notes[0].startswith("2,160 of 2,880 candidates are copies")
