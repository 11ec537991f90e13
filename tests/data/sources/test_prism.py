"""PRISM's two files of ratings; the files are made here, in their documented fields."""

import json

import pytest

from bestfor.data.sources.prism import load_prism
from bestfor.errors import InputError
from bestfor.runs.config import parse_config
from bestfor.runs.sources import read_ratings, with_split
from bestfor.runs.study import load


def conversation(user="user0", number=0):
    def model(turn, place, text, score, chosen):
        return {"turn": turn, "role": "model", "content": text, "model_name": f"m{place}", "model_provider": "x",
                "score": score, "if_chosen": chosen, "within_turn_id": place}  # fmt: skip

    return {
        "conversation_id": f"c{number}",
        "user_id": user,
        "conversation_type": "unguided",
        "opening_prompt": f"hi {number}",
        "conversation_turns": 2,
        "conversation_history": [
            {"turn": 0, "role": "user", "content": f"hi {number}"},
            model(0, 0, "hello", 40, False),
            model(0, 1, f"good day {number}", 90.0, True),
            model(0, 2, "what", 3, False),
            {"turn": 1, "role": "user", "content": "and now?"},
            model(1, 0, "bye", 80, True),
            model(1, 1, "leave", 20, False),
        ],
        "performance_attributes": {"values": 50},
        "open_feedback": "fine",
    }


def utterances(rows):
    for row in rows:
        said = ""
        for one in row["conversation_history"]:
            if one["role"] == "user":
                said = one["content"]
                continue
            known = {name: row[name] for name in ("conversation_id", "user_id", "conversation_type")}
            names = ("turn", "model_name", "score", "if_chosen", "within_turn_id")
            text = {"utterance_id": "ut0", "user_prompt": said, "model_response": one["content"]}
            yield known | {name: one[name] for name in names} | text


def save(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ratings_by(found):
    rows = zip(found.user, found.query, found.text, found.rating, strict=True)
    return {(found.users[u], found.queries[q], found.texts[t]): r for u, q, t, r in rows}


def test_both_files_say_the_same(tmp_path):
    rows = [conversation(), conversation("user1", 1)]
    whole = load_prism(save(tmp_path / "conversations.jsonl", rows))
    long = list(utterances(rows))
    mixed = load_prism(save(tmp_path / "utterances.jsonl", long[1::2] + long[::2]))
    later = "User: hi 0\n\nAssistant: good day 0\n\nUser: and now?"
    assert ratings_by(whole) == ratings_by(mixed)
    assert ratings_by(whole)["user0", "hi 0", "good day 0"] == 90
    assert ratings_by(whole)["user0", later, "leave"] == 20
    assert len(whole.rating) == 10
    assert ratings_by(load_prism(tmp_path)) == ratings_by(whole)


def test_first_turns_alone(tmp_path):
    found = load_prism(save(tmp_path / "conversations.jsonl", [conversation()]), "first")
    assert found.queries == ("hi 0",)
    assert len(found.rating) == 3


def test_answers_without_a_score_are_counted(tmp_path):
    row = conversation()
    row["conversation_history"][1]["score"] = None
    row["conversation_history"][3]["content"] = " "
    found = load_prism(save(tmp_path / "conversations.jsonl", [row]))
    assert found.notes[0] == "2 answers without a score or without a text were left out"
    assert len(found.rating) == 3


def test_where_nothing_is_chosen_the_best_rated_answer_goes_on(tmp_path):
    row = conversation()
    for one in row["conversation_history"]:
        one.pop("if_chosen", None)
    found = load_prism(save(tmp_path / "conversations.jsonl", [row]))
    assert "User: hi 0\n\nAssistant: good day 0\n\nUser: and now?" in found.queries


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": None}, "row 1, field 'user_id': found nothing"),
        ({"conversation_history": "x"}, "field 'conversation_history': found a text; expected a list of objects"),
        ({"conversation_history": [{"role": "user", "content": "x"}]}, "field 'turn': found nothing; expected a whole"),
        (
            {"conversation_history": [{"turn": 0, "role": "model", "content": "x", "score": "9"}]},
            "found '9'; expected a n",
        ),
        ({"conversation_history": []}, "no rated answer"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_prism(save(tmp_path / "conversations.jsonl", [conversation() | change]))


def test_other_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected conversations.jsonl, utterances.jsonl"):
        load_prism(tmp_path)
    with pytest.raises(InputError, match="neither 'conversation_history' nor 'user_prompt'"):
        load_prism(save(tmp_path / "survey.jsonl", [{"user_id": "user0", "age": "18-24"}]))


def test_is_a_source_of_runs(tmp_path):
    save(tmp_path / "conversations.jsonl", [conversation(f"user{k % 3}", k) for k in range(9)])
    data = {"source": "prism", "path": str(tmp_path), "turns": "first"}
    config = parse_config({"data": data, "reward": [{"kind": "length"}]}, "run.toml")
    ratings = read_ratings(config)
    assert config.door == "ratings"
    assert with_split(config, ratings).split.by in ("query", "text")
    assert len(load("prism", tmp_path).rating) == 45
    assert len(ratings.rating) == 27
