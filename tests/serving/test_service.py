"""The service: answers that are logged, labels that count at once, people who are forgotten, tenants, threads."""

import json
import threading
from collections import Counter

import numpy as np
import pytest

from bestfor.errors import InputError
from bestfor.rewards import build
from bestfor.serving import LabelScale, Service
from bestfor.serving.cache import OVERHEAD
from bestfor.serving.journal import Journal, Standing
from bestfor.testing.rewards import LetterEncoder, taste_examples
from bestfor.types import Scores
from support.taught import Untaught, taught

TEXTS = ["red fish", "blue fish", "green bird"]
SCALE = LabelScale(-1.0, 1.0)


@pytest.fixture
def open_service(address):
    opened = []

    def make(model=None, **options):
        service = Service(taught("ann") if model is None else model, address, **{"scale": SCALE, **options})
        opened.append(service)
        return service

    yield make
    for service in opened:
        service.close()


@pytest.fixture
def service(open_service):
    return open_service()


def test_an_answer_is_the_best_and_is_logged_whole(service):
    answer = service.answer("ann", "an animal", [*TEXTS, "ann-word"], tokens=12)
    assert (answer.text, answer.index, answer.served, answer.notes) == ("ann-word", 3, "own", ())
    assert answer.chances.tolist() == [0, 0, 0, 1]
    logged = service.journal.answer("", answer.id)
    assert logged.texts == (*TEXTS, "ann-word")
    assert logged.mean == tuple(answer.scores.mean.tolist())
    assert logged.std == (1.0,) * 4
    assert (logged.chances, logged.chosen, logged.rule, logged.tokens) == ((0, 0, 0, 1), 3, "best", 12)
    assert (logged.user, logged.prompt, logged.served) == ("ann", "an animal", "own")


@pytest.mark.parametrize(
    ("said", "best"),
    [
        ({"thumb": False}, "not red fish"),
        ({"rating": 1.0, "text": "green bird"}, "green bird"),
        ({"prefer": 2}, "green bird"),
        ({"prefer": ["blue fish", "green bird", "red fish"]}, "blue fish"),
        ({"edit": "green bird"}, "green bird"),
        ({"dismissed": True}, "not red fish"),
    ],
    ids=lambda value: str(value),
)
def test_what_is_said_counts_in_the_next_answer(service, said, best):
    first = service.answer("bob", "an animal", TEXTS, id="first-1")
    if first.text != "red fish":
        first = service.answer("bob", "an animal", ["red fish"])
        service.learn(first.id, thumb=True, key="set up")
        first = service.answer("bob", "an animal", TEXTS)
        service.withdraw("set up")
    assert first.text == "red fish"
    receipt = service.learn(first.id, **said)
    assert (receipt.status, receipt.note) == ("new", "")
    text = service.answer("bob", "an animal", TEXTS).text
    assert text == best or (best == "not red fish" and text != "red fish")


def test_a_comment_is_kept_and_not_learned(service):
    answer = service.answer("bob", "an animal", TEXTS)
    before = service.answer("bob", "an animal", TEXTS).scores.mean
    service.learn(answer.id, comment="too many fish")
    assert service.answer("bob", "an animal", TEXTS).scores.mean.tolist() == before.tolist()
    assert "too many fish" in service.export("bob")


def test_what_is_said_twice_counts_once_and_can_be_changed_and_withdrawn(service):
    answer = service.answer("bob", "an animal", TEXTS)
    assert [service.learn(answer.id, thumb=value).status for value in (True, True, False)] == ["new", "same", "changed"]
    assert len(service.journal.labels_of("", "bob")) == 1
    receipt = service.learn(answer.id, thumb=False)
    assert service.withdraw(receipt.key)
    assert service.answer("bob", "an animal", TEXTS).scores.mean.tolist() == [0, 0, 0]
    assert service.learn(answer.id, thumb=True).status == "new"
    assert service.learn(answer.id, thumb=True, key="evt-17").status == "new"
    service.withdraw("evt-17")
    assert service.learn(answer.id, thumb=True, key="evt-17").status == "withdrawn"


def test_places_of_their_own_for_what_differs(service):
    answer = service.answer("bob", "an animal", TEXTS)
    service.learn(answer.id, kept=True)
    assert service.learn(answer.id, dismissed=True).status == "changed"
    for said in (
        {"prefer": [0, 1]},
        {"prefer": [1, 2]},
        {"rating": 1},
        {"rating": 1, "text": "blue fish"},
        {"comment": "a"},
        {"comment": "b"},
        {"thumb": True},
        {"edit": "a bird"},
    ):
        assert service.learn(answer.id, **said).status == "new"
    assert service.learn(answer.id, prefer=[1, 0]).status == "changed"
    assert service.learn(user="bob", prompt="an animal", text="red fish", rating=0).status == "new"
    assert service.learn(user="bob", prompt="an animal", text="red fish", rating=1).status == "changed"
    assert service.learn(user="eve", prompt="an animal", text="red fish", rating=1).status == "new"


def test_bare_texts_are_learned_from(service):
    service.learn(user="bob", prompt="an animal", text="blue fish", rating=1.0)
    service.learn(user="bob", prompt="an animal", prefer=["blue fish", "red fish"])
    assert service.answer("bob", "an animal", TEXTS).text == "blue fish"


def test_nobody_else_changes(service):
    answer = service.answer("bob", "an animal", TEXTS)
    before = service.answer("eve", "an animal", TEXTS).scores.mean
    service.learn(answer.id, thumb=True)
    assert service.answer("eve", "an animal", TEXTS).scores.mean.tolist() == before.tolist()


def test_two_services_of_one_journal_see_each_other_at_once(open_service):
    one, other = open_service(), open_service()
    answer = one.answer("bob", "an animal", ["blue fish"])
    assert other.answer("bob", "an animal", TEXTS).scores.mean.tolist() == [0, 0, 0]
    other.learn(answer.id, thumb=True)
    assert one.answer("bob", "an animal", TEXTS).text == "blue fish"
    one.forget("bob")
    assert other.answer("bob", "an animal", TEXTS).scores.mean.tolist() == [0, 0, 0]


def test_two_tenants_with_the_same_user_never_meet(open_service):
    plain, first, second = open_service(), open_service(tenant="first"), open_service(tenant="second")
    texts = ["ann-word", "blue fish"]
    assert plain.answer("ann", "", texts).text == "ann-word"
    answer = first.answer("ann", "", texts, id="same")
    assert answer.served == "everybody"
    first.learn("same", rating=1.0, text="blue fish")
    assert first.answer("ann", "", texts).text == "blue fish"
    assert second.answer("ann", "", texts, id="same").served == "everybody"
    with pytest.raises(InputError, match="not in the journal"):
        plain.learn("same", thumb=True)
    second.forget("ann")
    assert first.answer("ann", "", texts).text == "blue fish"
    assert plain.answer("ann", "", texts).text == "ann-word"


def test_somebody_forgotten_is_served_as_a_newcomer(open_service, tmp_path):
    service = open_service()
    answer = service.answer("ann", "", ["ann-word", "blue fish"])
    assert answer.served == "own"
    service.learn(answer.id, thumb=True)
    receipt = service.forget("ann")
    assert (receipt.answers, receipt.labels, receipt.wiped, receipt.still_held) == (1, 1, True, ())
    assert service.answer("ann", "", ["ann-word", "blue fish"]).served == "everybody"
    assert [json.loads(line)["type"] for line in service.export("ann").splitlines()] == ["person", "answer"]
    with pytest.raises(InputError, match="not in the journal"):
        service.learn(answer.id, thumb=True)
    service.learn(user="ann", text="blue fish", rating=1.0)
    assert service.answer("ann", "", ["ann-word", "blue fish"]).text == "blue fish"


def test_export_holds_everything(service):
    answer = service.answer("bob", "an animal", TEXTS)
    receipt = service.learn(answer.id, thumb=True)
    service.learn(answer.id, comment="naïve \U0001f388\n")
    service.withdraw(receipt.key)
    person, first, *labels = [json.loads(line) for line in service.export("bob").splitlines()]
    assert person == {"type": "person", "tenant": "", "user": "bob", "forgotten": False}
    assert (first["texts"], first["id"], first["chances"]) == (TEXTS, answer.id, answer.chances.tolist())
    assert {one["kind"]: one["withdrawn"] is None for one in labels} == {"thumb": False, "comment": True}
    assert service.export("nobody").count("\n") == 1


def test_exploring_shows_every_text_with_the_chance_that_is_logged(open_service):
    service = open_service(explore=0.3, seed=3)
    texts = ["ann-word", "blue fish", "green bird"]
    answers = [service.answer("ann", "", texts, id=f"a{number}") for number in range(400)]
    assert answers[0].chances == pytest.approx([0.8, 0.1, 0.1])
    counts = Counter(answer.index for answer in answers)
    expected = np.array([0.8, 0.1, 0.1]) * 400
    assert sum((counts[place] - expected[place]) ** 2 / expected[place] for place in range(3)) < 13.8  # p = .001
    assert service.journal.answer("", "a0").chances == tuple(answers[0].chances.tolist())
    assert service.rule == "best, explore 0.3"


def test_the_same_id_and_seed_draw_the_same_pick(open_service, tmp_path):
    picks = []
    for name in ("one", "two"):
        with Service(taught(), tmp_path / f"{name}.db", "soft:1", scale=SCALE) as service:
            picks.append([service.answer("bob", "", TEXTS, id=f"a{number}").index for number in range(40)])
    assert picks[0] == picks[1]
    assert set(picks[0]) == {0, 1, 2}


@pytest.mark.parametrize("rule", ["soft:1", "top:2", "epsilon:0.1", "thompson", "median", "length_capped:20"])
def test_rules_by_name_log_their_chances(open_service, rule):
    service = open_service(rule=rule)
    answer = service.answer("ann", "", ["ann-word", "blue fish", "green bird"])
    assert answer.chances.sum() == pytest.approx(1)
    assert service.journal.answer("", answer.id).rule.partition(":")[0] == rule.partition(":")[0]


def test_a_rule_that_cannot_be_evaluated_says_so(open_service):
    (note,) = open_service().notes
    assert "explore=0.1" in note
    assert open_service(explore=0.1).notes == ()
    assert open_service(rule="soft:1").notes == ()
    assert open_service(rule="thompson").notes == ()


def test_one_text_and_equal_texts_are_picked_and_said_so(service):
    one = service.answer("bob", "", ["only"])
    assert (one.text, one.chances.tolist(), one.notes) == ("only", [1.0], ("one text: there was nothing to choose",))
    same = service.answer("bob", "", ["same", "same"])
    assert same.chances.tolist() == [0.5, 0.5]
    assert same.notes == ("all texts are equal: there was nothing to choose",)


def test_a_kind_that_learns_at_fit_keeps_labels_until_then(open_service):
    service = open_service(taught("ann", cls=Untaught))
    answer = service.answer("ann", "", ["ann-word", "blue fish"])
    receipt = service.learn(answer.id, thumb=False)
    assert (receipt.status, receipt.note) == ("new", "kind 'untaught' learns it at the next refit")
    assert service.answer("ann", "", ["ann-word", "blue fish"]).text == "ann-word"
    assert any("refit" in note for note in service.notes)
    service.forget("ann")
    assert service.answer("ann", "", ["ann-word", "blue fish"]).served == "everybody"
    with pytest.raises(InputError, match="which learns at fit only"):
        service.person("ann")


def test_texts_that_may_not_be_kept_are_hashes_and_still_teach(open_service):
    service = open_service(texts="hash")
    answer = service.answer("bob", "a secret prompt", TEXTS)
    service.learn(answer.id, rating=1.0, text="blue fish")
    assert service.answer("bob", "a secret prompt", TEXTS).text == "blue fish"
    service.learn(answer.id, edit="a secret fish", key="edit")
    for word in ("secret", "blue", "bird"):
        assert word not in service.export("bob")
    other = open_service(texts="hash")
    assert other.answer("bob", "a secret prompt", ["x"]).scores.mean.tolist() == [0]
    assert other.journal.labels_of("", "bob")[0][0].hashed


def test_hashed_texts_are_found_elsewhere(open_service):
    first = open_service(texts="hash")
    answer = first.answer("bob", "an animal", TEXTS)
    from bestfor.serving.labels import hash_of

    known = {hash_of(text): text for text in ("an animal", *TEXTS)}
    other = open_service(texts="hash", find_text=known.get)
    other.learn(answer.id, rating=1.0)
    other.learn(answer.id, prefer=["blue fish", "red fish"])
    assert other.answer("bob", "an animal", ["red fish", "blue fish"]).scores.mean.any()


def test_threads_answer_and_learn_at_once(service):
    start, failures = threading.Barrier(8), []

    def work(number):
        start.wait()
        try:
            for place in range(15):
                user = f"u{place % 4}"
                answer = service.answer(user, "an animal", TEXTS)
                service.learn(answer.id, rating=1.0, text="blue fish", key=f"{number}-{place}")
                if service.answer(user, "an animal", TEXTS).text != "blue fish":
                    failures.append((number, place))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert service.journal.counts()["labels"] == {"rating": 120}
    assert service.journal.counts()["answers"] == 240


def test_few_persons_are_kept_and_all_are_served(open_service):
    service = open_service(persons=2)
    for number in range(6):
        service.learn(user=f"u{number}", text="blue fish", rating=1.0)
    for _ in range(2):
        for number in range(6):
            assert service.answer(f"u{number}", "", TEXTS).text == "blue fish"
    assert len(service._persons) == 2


def test_persons_take_no_more_memory_than_declared(open_service):
    service = open_service(memory=5 * OVERHEAD / 1e6)
    for number in range(9):
        service.learn(user=f"u{number}", text="blue fish", rating=1.0)
    for _ in range(2):
        for number in range(9):
            assert service.answer(f"u{number}", "", TEXTS).text == "blue fish"
    assert 2 <= len(service._persons) <= 5
    assert service._persons.bytes <= 5 * OVERHEAD


def test_who_is_forgotten_by_another_service_leaves_this_ones_memory(open_service):
    """At the next request of anybody, not of the person who was forgotten."""
    one, other = open_service(texts="hash"), open_service(texts="hash")
    answer = one.answer("bob", "an animal", TEXTS)
    kept = one.answer("eve", "an animal", TEXTS)
    assert {"bob", "eve"} <= set(one._persons.keys())
    other.forget("bob")
    one.answer("eve", "", ["green bird"])
    assert "bob" not in set(one._persons.keys())
    assert one._answers.get(answer.id) is None
    assert one._answers.get(kept.id) is not None
    assert "an animal" not in one._texts.values()
    with pytest.raises(InputError, match="not in the journal"):
        one.learn(answer.id, thumb=True)


@pytest.mark.parametrize("user", ["\U0001f388" * 10_000, "Ünïcode\u202e ann", "%' OR 1=1 --", "\n\t "])
def test_users_and_keys_of_any_length_and_script_are_served(open_service, user):
    service, other = open_service(tenant=user), open_service(tenant="other")
    answer = service.answer(user, "an animal", TEXTS, id=user)
    assert service.learn(answer.id, rating=1.0, text="blue fish", key=user).status == "new"
    assert service.learn(answer.id, rating=1.0, text="blue fish", key=user).status == "same"
    assert service.answer(user, "", TEXTS).text == "blue fish"
    assert other.answer(user, "", TEXTS).scores.mean.tolist() == [0, 0, 0]
    assert json.loads(service.export(user).splitlines()[0])["user"] == user
    assert service.withdraw(user)
    receipt = service.forget(user)
    assert (receipt.user, receipt.answers, receipt.labels) == (user, 2, 1)


def test_another_model_takes_over_and_the_journal_stays(service):
    service.learn(user="bob", text="blue fish", rating=1.0)
    texts = ["bob-word", "blue fish"]
    assert service.answer("bob", "", texts).text == "blue fish"
    service.reload(taught("bob"))
    assert service.answer("bob", "", ["bob-word", "red"]).text == "bob-word"
    assert service.answer("bob", "", ["blue fish", "red"]).text == "blue fish"


def test_a_journal_of_another_model_is_learned_from(open_service):
    """Labels are of no model: what was said to one is heard by the next, of another kind."""
    first = open_service()
    answer = first.answer("bob", "", TEXTS)
    first.learn(answer.id, rating=1.0)
    other = open_service(build("ridge", encoder=LetterEncoder()).fit(taste_examples(users=3), rng=0))
    assert other.answer("eve", "", TEXTS).served == "everybody"
    heard = other.answer("bob", "", TEXTS)
    assert heard.served == "own"
    assert [one.model for one in other.journal.answers_of("", "bob")].count("") == 2
    assert other.model.kind != first.model.kind


def test_an_open_journal_is_shared_and_stays_open(address):
    with Journal(address) as journal:
        with Service(taught(), journal, scale=SCALE) as service:
            service.answer("bob", "", TEXTS)
        assert journal.standing("", "bob") != Standing(None, False)


NAN = float("nan")
BAD = [
    (lambda s: s.answer("bob", "", []), "texts: found none; expected at least one"),
    (lambda s: s.answer("bob", "", "text"), "texts: found a value of type str; expected a list of texts"),
    (lambda s: s.answer("bob", "", ["a", None]), "texts, number 1: found a value of type NoneType"),
    (lambda s: s.answer("bob", NAN, ["a"]), "prompt: found NaN; expected text"),
    (lambda s: s.answer("bob", "", ["a", "b"], history=["x", NAN]), "history, number 1: found NaN; expected text"),
    (lambda s: s.answer("bob", "", ["a", "b"], history="x"), "history: found a value of type str"),
    (lambda s: s.answer("", "", ["a"]), "user: found an empty id"),
    (lambda s: s.answer(7, "", ["a"]), "user: found a value of type int"),
    (lambda s: s.answer("bob", "", ["a"], id="here"), "found the id 'here' again"),
    (lambda s: s.learn("nowhere", thumb=True), "answer: found the id 'nowhere', which is not in the journal"),
    (lambda s: s.learn(thumb=True, text="a"), "user: found nobody; expected an answer's id, or user="),
    (lambda s: s.learn("here", thumb=True, user="eve"), "user: found 'eve'; expected the user to whom"),
    (lambda s: s.learn("here", rating=7), "rating: found 7; expected a number from 0 to 1, the declared scale"),
    (lambda s: s.learn("here", prefer=["a", "a"]), "a text preferred to itself"),
    (lambda s: s.learn("here"), "label: found nothing that was said"),
    (lambda s: s.learn("here", tumb=True), "did you mean it"),
    (lambda s: s.learn(user="bob", edit="x"), "edit: found no answer"),
    (lambda s: s.learn(user="bob", text=3, thumb=True), "text: found a value of type int"),
    (lambda s: s.forget(None), "user: found a value of type NoneType"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_one_line_and_nothing_is_kept(service, call, message):
    service.answer("bob", "", ["a", "b"], id="here")
    before = service.journal.counts()
    with pytest.raises(InputError, match=message) as raised:
        call(service)
    assert "\n" not in str(raised.value)
    assert service.journal.counts() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "bets"}, "rule"),
        ({"explore": 2}, "explore: found 2; expected a share from 0 to 1"),
        ({"explore": NAN}, "explore: found nan"),
        ({"texts": "none"}, "texts: found 'none'; expected 'keep' or 'hash'"),
        ({"persons": 0}, "persons: found 0"),
        ({"memory": 0}, "memory: found 0; expected megabytes, more than 0"),
        ({"memory": NAN}, "memory: found nan"),
        ({"sacle": None}, "did you mean it"),
        ({"tenant": "a\x1fb"}, "tenant: found the character"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_one_line(address, options, message):
    with pytest.raises(InputError, match=message):
        Service(taught(), address, **options)


def test_a_scale_that_nobody_knows_is_asked_for(address):
    with Service(taught(), address) as service:
        answer = service.answer("bob", "", TEXTS)
        service.learn(answer.id, prefer=[0, 1])
        service.learn(answer.id, comment="fine")
        with pytest.raises(InputError, match=r"scale: found a model whose run nobody knows; expected scale=LabelScale"):
            service.learn(answer.id, thumb=True)


class TestAsk:
    def test_shows_two_texts_that_differ_and_their_preference_is_learned(self, service):
        before = service.journal.counts()
        question = service.ask("bob", "an animal", [*TEXTS, "red fish"])
        a, b = question
        assert a != b
        assert {a, b} <= set(TEXTS)
        assert question.texts == (a, b)
        assert [[*TEXTS, "red fish"][place] for place in question.places] == [a, b]
        assert service.journal.counts() == before
        service.learn(user="bob", prompt="an animal", prefer=[b, a])
        assert service.answer("bob", "an animal", [a, b]).text == b

    def test_the_same_question_is_asked_again(self, service):
        first = service.ask("bob", "an animal", TEXTS, rule="random")
        assert service.ask("bob", "an animal", TEXTS, rule="random").texts == first.texts

    def test_a_model_without_uncertainty_shows_its_two_best(self, open_service):
        model = taught("ann")
        plain = model.score
        model.score = lambda *given: Scores(plain(*given).mean)
        model.learns = False
        question = open_service(model).ask("ann", "", ["a", "ann-word", "c"])
        assert (question.rule, question.texts[0]) == ("top-two", "ann-word")
        assert "knows no uncertainty" in question.notes[0]

    @pytest.mark.parametrize(
        ("texts", "rule", "message"),
        [(["a", "a"], "expected", "texts: found 1 distinct text"), (["a", "b"], "bets", "rule 'bets'")],
    )
    def test_bad_input_is_one_line(self, service, texts, rule, message):
        with pytest.raises(InputError, match=message):
            service.ask("bob", "", texts, rule=rule)
