"""What others said of the very candidates: read from the journal, passed to the model, never one's own."""

import numpy as np
import pytest
from alembic import command
from sqlalchemy import create_engine, inspect, text

from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Rated
from bestfor.errors import InputError
from bestfor.files import hash_bytes
from bestfor.rewards import build
from bestfor.serving import LabelScale, Service
from bestfor.serving.base import REFIT_FILE, open_model
from bestfor.serving.journal import AskedTexts, Journal, Label, database
from bestfor.serving.journal.others import SIZES, statement
from bestfor.serving.names import NOBODY, model_name
from bestfor.testing.rewards import LetterEncoder
from support.migrating import migrate

TEXTS = ["abc abd", "hgf hge", "aab bba", "ggh hhg"]
ASKED = "which headline"
SCALE = LabelScale(-1.0, 1.0, (0.0, 10.0))


def fitted(kind):
    """A model of ten people who share what they make of forty texts."""
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefgh  "), size=24)) + f" {at}" for at in range(40)]
    merit, users = draw.normal(size=40), [f"u{code}" for code in range(10)]
    rows = [np.sort(draw.choice(40, 20, replace=False)) for _ in users]
    utilities = [merit[mine] + 0.5 * draw.normal(size=20) for mine in rows]
    fit = Candidates.of(users, [ASKED] * 10, [[words[at] for at in mine] for mine in rows], utilities)
    return build(kind, encoder=LetterEncoder()).fit(fit, rng=0)


@pytest.fixture(scope="module")
def pooled():
    return fitted("pooled")


@pytest.fixture
def service(pooled, tmp_path):
    with Service(pooled, tmp_path / "feedback.db", scale=SCALE) as opened:
        yield opened


def means(answer):
    return answer.scores.mean.tolist()


def expected(model, user, said, own=()):
    """Rewards by the model's own door: ``said`` maps who said it to (text, utility, weight)."""
    others = {name: Labels(tuple(Rated(ASKED, *one) for one in each)) for name, each in said.items()}
    own = Labels(tuple(Rated(ASKED, *one) for one in own))
    return model.person(user, own).score(ASKED, TEXTS, others=others).mean.tolist()


def test_what_others_said_of_the_very_candidates_counts_and_is_said(service, pooled):
    before = service.answer("u0", ASKED, TEXTS)
    assert (before.notes, before.heard) == ((), ())
    assert means(before) == pooled.score("u0", ASKED, TEXTS).mean.tolist()
    for user in ("u1", "eve"):
        service.learn(service.answer(user, ASKED, TEXTS).id, rating=10, text=TEXTS[3])
    service.learn(user="eve", prompt=ASKED, text=TEXTS[0], thumb=False)
    after = service.answer("u0", ASKED, TEXTS)
    assert after.notes == after.heard == ("3 ratings of these very texts by 2 other people counted",)
    said = {"u1": [(TEXTS[3], 1.0, 1.0)], "eve": [(TEXTS[3], 1.0, 1.0), (TEXTS[0], -0.5, 0.5)]}
    assert means(after) == expected(pooled, "u0", said)
    assert after.text == TEXTS[3]
    assert service.journal.answer("", after.id).mean == tuple(means(after))
    assert service.ask("u0", ASKED, TEXTS).scores.mean.tolist() == means(after)
    everybody = service.answer("u0", ASKED, TEXTS, everybody=True)
    assert everybody.heard == after.heard


def test_nobody_hears_themselves(service, pooled):
    service.learn(user="u1", prompt=ASKED, text=TEXTS[3], rating=10)
    own = service.answer("u1", ASKED, TEXTS)
    assert own.notes == ()
    assert means(own) == expected(pooled, "u1", {}, [(TEXTS[3], 1.0, 1.0)])
    service.learn(user="u2", prompt=ASKED, text=TEXTS[3], rating=0)
    assert service.answer("u1", ASKED, TEXTS).notes == ("1 rating of these very texts by 1 other person counted",)
    assert means(service.answer("u1", ASKED, TEXTS)) == expected(
        pooled, "u1", {"u2": [(TEXTS[3], -1.0, 1.0)]}, [(TEXTS[3], 1.0, 1.0)]
    )


def test_who_was_forgotten_is_not_heard_and_comes_back_as_a_stranger(service, pooled):
    before = means(service.answer("u0", ASKED, TEXTS))
    service.learn(user="u1", prompt=ASKED, text=TEXTS[3], rating=10)
    assert means(service.answer("u0", ASKED, TEXTS)) != before
    service.forget("u1")
    assert means(service.answer("u0", ASKED, TEXTS)) == before
    service.learn(user="u1", prompt=ASKED, text=TEXTS[3], rating=10)
    (one,) = service.journal.said_by_others(AskedTexts("", "u0", ASKED, tuple(TEXTS)), 10)
    assert one.forgotten
    stranger = {model_name("", "u1", forgotten=True): [(TEXTS[3], 1.0, 1.0)]}
    assert means(service.answer("u0", ASKED, TEXTS)) == expected(pooled, "u0", stranger)


@pytest.mark.parametrize(
    "kind", ["pooled", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("tastes", "auto"))]
)
def test_the_model_is_not_changed(kind, tmp_path):
    model = fitted(kind)
    with Service(model, tmp_path / "feedback.db", scale=SCALE) as service:
        before = service.answer("u0", ASKED, TEXTS)
        model.save(tmp_path / "before")
        for user in ("u1", "u2", "eve"):
            service.learn(user=user, prompt=ASKED, text=TEXTS[1], rating=10)
        heard = service.answer("u0", ASKED, TEXTS)
        assert means(heard) != means(before)
        assert np.all(heard.scores.std <= before.scores.std + 1e-12)
        for user in ("u1", "u2", "eve"):
            service.forget(user)
        assert means(service.answer("u0", ASKED, TEXTS)) == means(before)
    model.save(tmp_path / "after")
    first, second = (
        {one.name: one.read_bytes() for one in (tmp_path / name).iterdir()} for name in ("before", "after")
    )
    assert first == second


def test_only_ratings_that_hold_of_this_prompt_and_tenant_count(service, pooled):
    before = means(service.answer("u0", ASKED, TEXTS))
    answer = service.answer("eve", ASKED, TEXTS)
    service.learn(answer.id, edit="abc abd abd")
    service.learn(answer.id, prefer=[1, 0])
    service.learn(answer.id, comment="none of them")
    service.learn(user="eve", prompt="another", text=TEXTS[0], rating=0)
    service.learn(user="eve", prompt=ASKED, text="another text", rating=0)
    service.learn(service.answer(NOBODY + "x", ASKED, TEXTS).id, thumb=True)
    service.learn(user="eve", prompt=ASKED, text=TEXTS[0], rating=0, key="gone")
    assert means(service.answer("u0", ASKED, TEXTS)) != before
    service.withdraw("gone")
    assert means(service.answer("u0", ASKED, TEXTS)) == before
    with Service(pooled, service.journal, scale=SCALE, tenant="acme") as other:
        other.learn(user="eve", prompt=ASKED, text=TEXTS[0], rating=0)
        assert other.answer("u0", ASKED, TEXTS).heard
    assert means(service.answer("u0", ASKED, TEXTS)) == before


def test_each_person_has_one_word_on_a_text(service, pooled):
    for number in range(3):
        service.learn(service.answer("eve", ASKED, TEXTS).id, rating=number, text=TEXTS[0])
    service.learn(service.answer("eve", ASKED, TEXTS).id, thumb=True, text=TEXTS[0])
    found = service.answer("u0", ASKED, TEXTS)
    assert found.heard == ("1 rating of these very texts by 1 other person counted",)
    assert means(found) == expected(pooled, "u0", {"eve": [(TEXTS[0], -0.6, 1.0)]})
    service.learn(user="eve", prompt=ASKED, text=TEXTS[0], rating=10, key="k")
    service.learn(user="eve", prompt=ASKED, text=TEXTS[0], rating=5, key="k")
    assert means(service.answer("u0", ASKED, TEXTS)) == expected(pooled, "u0", {"eve": [(TEXTS[0], 0.0, 1.0)]})


def test_it_can_be_switched_off_and_kinds_that_do_not_hear_are_not_asked(pooled, tmp_path, monkeypatch):
    with Service(pooled, tmp_path / "feedback.db", scale=SCALE) as service:
        service.learn(user="eve", prompt=ASKED, text=TEXTS[0], rating=10)
        assert service.answer("u0", ASKED, TEXTS).heard
    monkeypatch.setattr(Journal, "said_by_others", None)
    plain = pooled.score("u0", ASKED, TEXTS).mean.tolist()
    with Service(pooled, tmp_path / "feedback.db", scale=SCALE, others=0) as service:
        assert means(service.answer("u0", ASKED, TEXTS)) == plain
    with Service(pooled, tmp_path / "feedback.db") as service:  # in units that nobody has declared
        assert means(service.answer("u0", ASKED, TEXTS)) == plain
    with Service(fitted("ridge"), tmp_path / "feedback.db", scale=SCALE) as service:
        assert service.answer("u0", ASKED, TEXTS).notes == ()
    for wrong in (-1, 1001, True, "all"):
        with pytest.raises(InputError, match="others"):
            Service(pooled, tmp_path / "feedback.db", others=wrong)


def test_hashes_of_texts_are_found_too(pooled, tmp_path):
    for texts in ("hash", "keep"):
        with Service(pooled, tmp_path / "feedback.db", scale=SCALE, texts=texts) as service:
            user = f"eve-{texts}"
            service.learn(service.answer(user, ASKED, TEXTS).id, rating=10, text=TEXTS[0])
            service.learn(user=user, prompt=ASKED, text=TEXTS[1], rating=0)
    for texts in ("hash", "keep"):
        with Service(pooled, tmp_path / "feedback.db", scale=SCALE, texts=texts) as service:
            heard = service.answer("u0", ASKED, TEXTS)
            assert heard.heard == ("4 ratings of these very texts by 2 other people counted",)


def brute_force(said, asked, most, since):
    """The newest labels of each text by others, by looking at all labels."""
    found = []
    for place, one in enumerate(asked.texts):
        of_it = [
            (label.time, label.user, label.kind, label.value)
            for label, prompt in said
            if label.texts == (one,) and label.kind in ("rating", "thumb", "kept", "dismissed")
            if prompt == asked.prompt and label.user != asked.user and label.withdrawn is None and label.time > since
        ]
        found += [(place, *each) for each in sorted(of_it, reverse=True)[:most]]
    return sorted(found)


@pytest.mark.parametrize("count", [1, 8, 9, 130])
def test_the_newest_of_each_text_are_read_and_no_others(journal, answer, count):
    draw = np.random.default_rng(count)
    texts, prompts = [f"text {n}" for n in range(max(count, 4))], ["", "p"]
    journal.add_answers("", [answer(f"a{user}{p}", user=f"u{user}", prompt=prompt) for user in range(5)
                             for p, prompt in enumerate(prompts)])  # fmt: skip
    said = []
    for number in range(150):
        user, about = f"u{draw.integers(5)}", draw.random() < 0.5
        prompt = str(draw.choice(prompts))
        label = Label(
            f"k{number}",
            user,
            str(draw.choice(["rating", "thumb", "kept", "dismissed", "comment", "edit"])),
            answer=f"a{user[1:]}{prompts.index(prompt)}" if about else None,
            value=float(draw.random()),
            low=0.0,
            high=1.0,
            texts=(texts[int(draw.integers(min(len(texts), 6)))],),
            prompt="" if about else prompt,
            time=float(number),
        )
        said.append((label, prompt))
    journal.add_labels("", [label for label, _ in said])
    for number in range(0, 150, 10):
        journal.withdraw("", f"k{number}")
    left = [(label, prompt) for place, (label, prompt) in enumerate(said) if place % 10]
    for most, since, who in ((3, -1.0, "u0"), (100, 70.0, "nobody")):
        asked = AskedTexts("", who, "p", tuple(texts[:count]))
        found = journal.said_by_others(asked, most, since)
        read = sorted((one.place, one.time, one.user, one.kind, one.value) for one in found)
        assert read == brute_force(left, asked, most, since)
        assert not any(one.forgotten for one in found)


def test_no_table_is_searched_from_its_beginning(tmp_path):
    with Journal(tmp_path / "feedback.db") as journal, journal.read() as connection:
        for size in SIZES:
            values = dict.fromkeys((f"item{place}" for place in range(size)), b"x" * 16)
            plan = connection.execute(
                text(f"EXPLAIN QUERY PLAN {statement(size).text}"), {**values, "person": b"", "most": 9, "since": 0}
            ).all()
            steps = [row[3] for row in plan]
            touched = [step for step in steps if any(name in step for name in (" labels ", "people", "tombstones"))]
            assert all(step.startswith("SEARCH") for step in touched)
            assert sum("labels_item (item=? AND time>?)" in step for step in touched) == size
            assert not any("TEMP B-TREE" in step for step in steps)


def test_labels_of_an_older_journal_are_found(address, answer):
    hashed = hash_bytes(b"one")
    with Journal(address) as journal:
        journal.add_answers("", [answer("a", prompt="p"), answer("h", prompt=hash_bytes(b"p"), hashed=True)])
        journal.add_labels("", [
            Label("1", "ann", "thumb", answer="a", value=1.0, texts=("one",), time=1.0),
            Label("2", "ben", "rating", value=0.5, low=0.0, high=1.0, texts=("one",), prompt="p", time=2.0),
            Label("3", "ann", "thumb", answer="h", value=0.0, texts=(hashed,), time=3.0, hashed=True),
            Label("4", "ann", "preference", texts=("one", "two"), prompt="p", time=4.0),
            Label("5", "eve", "kept", value=1.0, texts=("one",), time=5.0),
            Label("6", "eve", "kept", value=1.0, texts=(hashed,), time=6.0, hashed=True),
        ])  # fmt: skip
        asked = [AskedTexts("", "me", prompt, ("one", "two")) for prompt in ("p", "")]
        before = [journal.said_by_others(one, 9) for one in asked]
        assert [[said.time for said in each] for each in before] == [[3.0, 2.0, 1.0], [6.0, 5.0]]
    migrate(address, command.downgrade, "004")
    engine = create_engine(database.parse_url(address))
    with engine.connect() as connection:
        assert "item" not in {column["name"] for column in inspect(connection).get_columns("labels")}
    engine.dispose()
    for _ in range(2):
        with Journal(address) as journal:
            assert [journal.said_by_others(one, 9) for one in asked] == before
            assert len(journal.labels_of("", "ann")) == 3


def test_labels_that_the_fit_has_learned_are_not_counted_twice(tmp_path):
    model = fitted("pooled")
    model.save(tmp_path / "model")
    with Service(model, tmp_path / "feedback.db", scale=SCALE) as service:
        service.learn(user="eve", prompt=ASKED, text=TEXTS[0], rating=10)
        ((label, _),) = service.journal.labels_of("", "eve")
    for record, heard in (
        ("{}", 1),
        (f'{{"learned": {label.time}}}', 1),
        (f'{{"learned": {label.time - 1}}}', 2),
        ('{"learned": null}', 2),
    ):
        (tmp_path / "model" / REFIT_FILE).write_text(record)
        served = open_model(tmp_path / "model", encoder=LetterEncoder())
        with Service(served, tmp_path / "feedback.db", scale=SCALE) as service:
            service.learn(user="bob", prompt=ASKED, text=TEXTS[0], rating=0, key="later")
            asked = service.answer("u0", ASKED, TEXTS)
            assert len(asked.heard) == 1
            assert asked.heard[0].startswith(f"{heard} rating")
            service.forget("bob")
