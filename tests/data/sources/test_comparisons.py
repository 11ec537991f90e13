"""Comparisons in the layouts that arenas and reward benchmarks publish; the files are made here."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bestfor.data.sources.pairs import load_pairs
from bestfor.errors import InputError


def lines(folder, rows, name="rows.jsonl"):
    path = folder / name
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(text)
    return path


def ratings_by(found):
    rows = zip(found.user, found.query, found.text, found.rating, strict=True)
    return {(found.users[u], found.queries[q], found.texts[t]): r for u, q, t, r in rows}


def asked(*texts):
    return [{"role": "user" if at % 2 == 0 else "assistant", "content": text} for at, text in enumerate(texts)]


def arena(winner="model_a", judge="arena_user_7", one="yes", other="no", **more):
    return {
        "question_id": "58210",
        "model_a": "alpaca-13b",
        "model_b": "koala-13b",
        "winner": winner,
        "judge": judge,
        "conversation_a": asked("Is it?", one),
        "conversation_b": asked("Is it?", other),
        "turn": 1,
        "anony": True,
        "language": "English",
        "tstamp": 1682351591.1322,
    } | more


class TestArena:
    @pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.parquet"])
    def test_winners_and_ties(self, tmp_path, name):
        rows = [arena(), arena("model_b", "u2"), arena("tie (bothbad)", "u3"), arena("tie", "u4"), arena("", "u5")]
        found = load_pairs(lines(tmp_path, rows, name))
        assert ratings_by(found) == {
            ("arena_user_7", "Is it?", "yes"): 1.0, ("arena_user_7", "Is it?", "no"): 0.0,
            ("u2", "Is it?", "yes"): 0.0, ("u2", "Is it?", "no"): 1.0,
            ("u3", "Is it?", "yes"): 0.5, ("u3", "Is it?", "no"): 0.5,
            ("u4", "Is it?", "yes"): 0.5, ("u4", "Is it?", "no"): 0.5,
        }  # fmt: skip
        assert found.notes[0] == "1 rows were left out: nobody won and no tie is told"

    def test_a_winner_by_its_own_name_and_the_newer_words(self, tmp_path):
        rows = [arena("koala-13b", "u1"), arena("both_bad", "u2")]
        new = {"evaluation_session_id": "s1", "conversation_a": asked("Is it?"), "conversation_b": asked("Is it?")}
        for side, text in (("a", "yes"), ("b", "no")):
            parts = [{"type": "text", "text": text, "image": None}]
            new[f"conversation_{side}"] = [*asked("Is it?"), {"role": "assistant", "content": parts}]
        rows.append({name: value for name, value in arena().items() if name != "judge"} | new)
        assert "evaluation_session_id" in rows[2]
        columns = {"user": "judge"}
        found = ratings_by(load_pairs(lines(tmp_path, rows[:2]), columns))
        assert found["u1", "Is it?", "no"] == 1.0
        assert found["u2", "Is it?", "no"] == 0.5
        newer = ratings_by(load_pairs(lines(tmp_path, rows[2:], "new.jsonl")))
        assert newer == {("s1", "Is it?", "yes"): 1.0, ("s1", "Is it?", "no"): 0.0}

    def test_later_turns_are_part_of_the_answer_where_the_chats_differ(self, tmp_path):
        row = arena(
            conversation_a=asked("Is it?", "yes", "Why?", "because"),
            conversation_b=asked("Is it?", "no", "Why?", "so it is"),
        )
        same = arena(
            judge="u2",
            conversation_a=asked("Is it?", "yes", "Why?", "because"),
            conversation_b=asked("Is it?", "yes", "Why?", "so"),
        )
        found = ratings_by(load_pairs(lines(tmp_path, [row, same])))
        assert found["arena_user_7", "Is it?", "Assistant: yes\n\nUser: Why?\n\nAssistant: because"] == 1.0
        assert found["u2", "User: Is it?\n\nAssistant: yes\n\nUser: Why?", "because"] == 1.0

    def test_flat_rows_of_a_csv(self, tmp_path):
        path = tmp_path / "train.csv"
        path.write_text(
            "id,who,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"
            '1,ann,x,y,"[""Is it?""]","[""yes""]","[""no""]",0,1,0\n'
            '2,bob,x,y,"[""Is it?"",""Why?""]","[""yes"",""so""]","[""no"",null]",0,0,1\n'
            '3,eve,x,y,"[""Is it?""]","[""yes""]","[""no""]",0,0,0\n',
            encoding="utf-8",
        )
        found = load_pairs(path, {"user": "who"})
        values = ratings_by(found)
        assert values["ann", "Is it?", "no"] == 1.0
        assert values["bob", "Is it?", "Assistant: yes\n\nUser: Why?\n\nAssistant: so"] == 0.5
        assert found.notes[0].startswith("1 rows were left out")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"winner": "model_c"}, "row 1, field 'winner': found 'model_c'; expected model_a, model_b, tie"),
            ({"judge": " "}, "row 1, field 'judge': found ''; expected a user's id"),
            ({"conversation_a": "hello"}, "field 'conversation_a': found a text; expected a list of objects"),
            ({"conversation_a": asked("Other?", "yes")}, "two chats that do not begin alike"),
            ({"conversation_a": [{"role": "poet", "content": "x"}]}, r"'conversation_a\[0\]': found role 'poet'"),
            ({"conversation_a": [{"role": "user", "content": 3}]}, "found content of type int"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, tmp_path, change, message):
        with pytest.raises(InputError, match=message):
            load_pairs(lines(tmp_path, [arena() | change]))

    def test_rows_without_people_say_which_fields_there_are(self, tmp_path):
        row = {name: value for name, value in arena().items() if name != "judge"}
        with pytest.raises(InputError, match=r"no field 'user' .* user = \"NAME\" .* the row has question_id, model_a"):
            load_pairs(lines(tmp_path, [row]))


class TestRewardBenchmarks:
    def test_texts_with_a_subset_in_the_place_of_a_user(self, tmp_path):
        row = {"prompt": "Is it?", "chosen": "yes", "chosen_model": "m", "rejected": "no", "subset": "hard", "id": 3}
        found = ratings_by(load_pairs(lines(tmp_path, [row]), {"user": "subset"}))
        assert found == {("hard", "Is it?", "yes"): 1.0, ("hard", "Is it?", "no"): 0.0}

    def test_several_answers_a_side_are_compared_each_with_each(self, tmp_path):
        row = {"user": "u", "prompt": "Is it?", "chosen": ["yes", "sure"], "rejected": ["no", "never", "nah"]}
        found = ratings_by(load_pairs(lines(tmp_path, [row])))
        assert {text: rating for (_, _, text), rating in found.items()} == {
            "yes": 1.0, "sure": 1.0, "no": 0.0, "never": 0.0, "nah": 0.0,
        }  # fmt: skip

    @pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
    def test_lists_of_messages(self, tmp_path, name):
        whole = {"prompt": "Is it?", "chosen": asked("Is it?", "yes"), "rejected": asked("Is it?", "no"), "user": "u"}
        found = ratings_by(load_pairs(lines(tmp_path, [whole], name)))
        assert found == {("u", "Is it?", "yes"): 1.0, ("u", "Is it?", "no"): 0.0}

    def test_a_prompt_of_messages_with_answers_alone(self, tmp_path):
        answer = [{"role": "assistant", "content": "yes"}], [{"role": "assistant", "content": "no"}]
        prompt = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Is it?"}]
        row = {"user": "u", "prompt": prompt, "chosen": answer[0], "rejected": answer[1]}
        found = ratings_by(load_pairs(lines(tmp_path, [row])))
        assert found["u", "System: Be short.\n\nUser: Is it?", "yes"] == 1.0

    def test_transcripts(self, tmp_path):
        head = "\n\nHuman: Is it?\n\nAssistant: perhaps\n\nHuman: Well?\n\nAssistant:"
        row = {"annotator": "u", "chosen": f"{head} yes", "rejected": f"{head} no"}
        found = ratings_by(load_pairs(lines(tmp_path, [row])))
        asked_before = "User: Is it?\n\nAssistant: perhaps\n\nUser: Well?"
        assert found == {("u", asked_before, "yes"): 1.0, ("u", asked_before, "no"): 0.0}

    def test_a_profile_names_its_user(self, tmp_path):
        def row(number, items, **more):
            profile = [{"id": item, "category": "Art", "text": f"asked {item}"} for item in items]
            rubric = [{"aspect": "a", "evidence": "e", "reason": "r"}]
            kept = {"id": str(number), "question": f"Is it {number}?", "chosen": "yes", "rejected": "no"}
            return {**kept, "profile": profile, "rubric_aspects": rubric, "narrative": "n", **more}

        found = load_pairs(lines(tmp_path, [row(1, "abc"), row(2, "cab"), row(3, "abd")]))
        assert len(found.users) == 2
        assert found.queries == ("Is it 1?", "Is it 2?", "Is it 3?")
        assert sorted(found.written.values()) == [("asked a", "asked b", "asked c"), ("asked a", "asked b", "asked d")]
        assert "2 users have a profile: its 6 texts are what they wrote before" in found.notes

    def test_what_a_profile_says_is_read_oldest_first_without_what_the_pairs_ask(self, tmp_path):
        profile = [{"date": "2021-03-01", "content": "late"}, {"date": 2019, "content": "early"}]
        profile += [{"date": "2020", "content": "Is  it?"}, {"date": "2020", "content": "early"}, {"date": "2020"}]
        row = {"question": "Is it?", "chosen": "yes", "rejected": "no", "profile": profile}
        (texts,) = load_pairs(lines(tmp_path, [row])).written.values()
        assert texts == ("early", "late")
        undated = [{"content": "late"}, {"date": 2019, "content": "early"}, "plain"]
        (texts,) = load_pairs(lines(tmp_path, [row | {"profile": undated}])).written.values()
        assert texts == ("late", "early", "plain")
        with pytest.raises(InputError, match=r"row 1, field 'profile\[0\]'.*'soon'"):
            load_pairs(lines(tmp_path, [row | {"profile": [{"date": "soon", "text": "a"}]}]))

    def test_empty_profiles_are_no_person(self, tmp_path):
        row = {"question": "Is it?", "chosen": "yes", "rejected": "no", "profile": []}
        found = load_pairs(lines(tmp_path, [row, row | {"profile": [{"id": "a", "text": "b"}]}]))
        assert len(found.users) == 1
        assert found.notes[0].startswith("1 rows were left out: their profile is empty")
        with pytest.raises(InputError, match="no pair of different answers"):
            load_pairs(lines(tmp_path, [row]))

    def test_a_profile_of_words_is_a_name(self, tmp_path):
        row = {"question": "Is it?", "chosen": "yes", "rejected": "no", "profile": "a nurse of 45"}
        found = load_pairs(lines(tmp_path, [row]))
        assert (found.users, found.written) == (("a nurse of 45",), None)

    def test_what_was_asked_must_be_somewhere(self, tmp_path):
        row = {"user": "u", "chosen": "yes", "rejected": "no"}
        with pytest.raises(InputError, match="no field 'query' that says what was asked"):
            load_pairs(lines(tmp_path, [row]))

    def test_sharegpt_words(self, tmp_path):
        chat = [{"from": "human", "value": "Is it?"}, {"from": "gpt", "value": "yes"}]
        row = {"user": "u", "chosen": chat, "rejected": [chat[0], {"from": "gpt", "value": "no"}]}
        assert ratings_by(load_pairs(lines(tmp_path, [row])))["u", "Is it?", "yes"] == 1.0

    def test_two_equal_chats_tell_nothing(self, tmp_path):
        chat = asked("Is it?", "yes")
        rows = [
            {"user": "u", "chosen": chat, "rejected": chat},
            {"user": "u", "chosen": chat, "rejected": asked("Is it?", "no")},
        ]
        found = load_pairs(lines(tmp_path, rows))
        assert "1 pairs of one and the same text were left out" in found.notes
