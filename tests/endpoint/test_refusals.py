"""What a server's refusal is understood as."""

import pytest

from bestfor.data.turns import without_system
from bestfor.endpoint.failures import ErrorWords, RefusedError, of_status, said_of
from bestfor.endpoint.refusals import SystemTurns, fewer_choices, names

RANGE = "it has a candidateCount value of 12 but the supported range is from 1 (inclusive) to 9 (exclusive)."
SYSTEM = [{"role": "system", "content": "do"}, {"role": "user", "content": "it"}]


def refusal(body, status=400):
    said = said_of(body)
    error = of_status(status, {}, said).error("http://h", 1)
    assert isinstance(error, RefusedError)
    return error


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (RANGE, 8),
        ("Multiple candidates is not enabled for this model", 6),
        ("Invalid 'n': integer above maximum value. n must be <= 8", 8),
        ("Field 'n': Value must be between 1 <= value <= 4, but got 12", 4),
        ("n must be 1 when using greedy sampling", 1),
        ("Number of candidates must be in the range [1, 4]", 4),
        ("`n` should be less than 5", 4),
        ("N must be less than or equal to 5", 5),
        ("Only one completion: 'n' is not supported", 6),
        ("body.candidate_count: Input should be at most 2", 2),
        ("The number of choices must not exceed 3", 3),
        ("best_of must be 1", 1),
        ("the prompt is too long: at most 4096 tokens", None),
        ("content policy", None),
    ],
)
def test_how_many_choices_to_ask_for(words, most):
    assert fewer_choices(refusal({"error": {"message": words}}), 12) == most
    assert fewer_choices(refusal([{"error": {"message": words}}]), 1) is None


def test_a_parameter_that_is_named_beside_the_words():
    body = {"detail": [{"loc": ["body", "n"], "msg": "Extra inputs are not permitted"}]}
    assert refusal(body, 422).parameter == "n"
    assert fewer_choices(refusal(body, 422), 12) == 6


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("You are not allowed to request logprobs from this model.", 403),
        ("Logprobs is not enabled for this model", 400),
        ("response_logprobs: not supported", 422),
        ("This model does not return log probabilities", 400),
        ("Unknown parameter: 'top_logprobs'", 405),
    ],
)
def test_logprobs_by_any_name(words, status):
    if status == 405:
        assert "405" in str(of_status(status, {}, ErrorWords(words)).error("http://h", 1))
        return
    assert names(refusal({"message": words}, status), "logprobs")
    assert not names(refusal({"message": words}, status), "seed")


BODIES = {
    "plain": "too long",
    "message": {"message": "too long"},
    "error": {"error": {"message": "too long", "code": 400}},
    "list": [{"error": {"message": "too long"}}],
    "detail": {"detail": "too long"},
    "JSON in a text": {"error": {"message": '{"error": {"message": "too long"}}'}},
    "a list in a message": {"message": {"detail": [{"msg": "too long"}]}},
    "a number": {"error": {"message": "too long", "param": None}},
}


@pytest.mark.parametrize("name", BODIES)
def test_words_are_unwrapped(name):
    assert said_of(BODIES[name]).text == "too long"


def test_what_nests_without_end_is_borne():
    body: object = "too long"
    for _ in range(2000):
        body = [body]
    assert isinstance(said_of(body).text, str)


def test_a_guess_about_system_turns_is_given_up_where_it_does_not_help():
    turns = SystemTurns()
    broken = of_status(500, {}, ErrorWords("")).error("http://h", 1)
    assert turns.learn(broken, SYSTEM)
    assert turns.adapt(SYSTEM) == [{"role": "user", "content": "do\n\nit"}]
    assert not turns.learn(broken, turns.adapt(SYSTEM))
    assert turns.adapt(SYSTEM) == SYSTEM, "the server was down, that is all"
    turns.answered(SYSTEM)
    assert not turns.learn(broken, SYSTEM), "it has taken one"
    assert turns.notes("m") == []


def test_an_instruction_stands_before_the_first_user_turn():
    chat = [
        {"role": "developer", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert [one["content"] for one in without_system(chat)] == ["b", "a\n\nc"]
    assert without_system(chat[:1]) == [{"role": "user", "content": "a"}]
    assert without_system(chat[1:]) == chat[1:]


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        ("num_return_sequences must be 1", 1),
        ("Too many choices requested: 16 (limit 4)", 4),
        ("n can be at most 10 for this model", 10),
        ("unsupported_parameter: n", 8),
    ],
)
def test_limits_of_choices_in_further_words(reason, wanted):
    refusal = RefusedError("no", status=400, parameter="", reason=reason)
    assert fewer_choices(refusal, 16) == wanted


@pytest.mark.parametrize(
    "reason", ["messages[0].role: must be one of user, assistant", "the first message must have role user"]
)
def test_system_turns_refused_in_further_words(reason):
    turns, chat = SystemTurns(), [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    assert turns.learn(RefusedError("no", status=422, parameter="", reason=reason), chat)
    assert turns.adapt(chat) == [{"role": "user", "content": "Be short.\n\nHi"}]
