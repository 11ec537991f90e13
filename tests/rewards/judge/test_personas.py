import os
import tomllib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bestfor import rewards
from bestfor.errors import InputError
from bestfor.rewards.judge import Judge
from bestfor.rewards.judge.personas import FOLDER, Profile, file_name, read_edited, write_files, written_by_model
from bestfor.testing.rewards import taste_examples
from support.servers import error, judging, parts, persona

TEXT = st.text(min_size=1, max_size=40).filter(lambda text: text.strip())
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@pytest.fixture
def judge(scripted):
    made = []

    def make(answer=None, **options):
        server = scripted(answer or judging())
        endpoint = {"base_url": server.url, "retries": 0, "timeout": 5}
        made.append(rewards.build("judge", **{"model": "m", "endpoint": endpoint, **options}))
        return made[-1], server

    yield make
    for one in made:
        one.close()


def fitted(judge, folder, users=2, **options):
    """A saved model of users of whom everybody's persona is their best text."""
    examples = taste_examples(users=users, queries=1, candidates=3)
    model, server = judge(**options)
    model.fit(examples, rng=0).save(folder)
    return model, server, examples


def edit(folder, user, old, new):
    path = folder / FOLDER / file_name(user)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@example(" ", "0", ["0"])
@example("\r\n", "0", ["0"])
@given(IDS, TEXT, st.lists(TEXT, min_size=1, max_size=3))
def test_files_say_what_the_model_wrote(tmp_path_factory, user, who, texts):
    folder = tmp_path_factory.mktemp("personas")
    own = written_by_model(who, texts)
    write_files(folder, {user: own})
    [path] = folder.iterdir()
    values = tomllib.loads(path.read_bytes().decode())
    assert values["user"] == user
    assert (values["persona"].strip(), [one.strip() for one in values["rubrics"]]) == (own.persona, list(own.rubrics))
    assert read_edited(folder) == {}
    changed = path.read_text(encoding="utf-8").replace(own.written, "")
    path.write_text(changed, encoding="utf-8")
    found = read_edited(folder, [user])[user]
    assert (found.persona, found.rubrics) == (own.persona, own.rubrics)
    profile = Profile(own, 3, (("somebody", 0.5), (user, 0.5)))
    assert Profile.from_json(profile.to_json()) == profile


def test_names_of_files_tell_users_apart_everywhere():
    users = ["ann", "Ann", "ANN", "a/b", "..", ".", "x" * 500, "x" * 501, "ä", "a b", "-", ""]
    names = [file_name(user) for user in users]
    assert len({name.lower() for name in names}) == len(users)
    assert all(os.path.basename(name) == name and len(name.encode()) < 120 for name in names)


def test_an_edited_persona_is_used_and_said_without_another_fit(judge, tmp_path):
    _, server, examples = fitted(judge, tmp_path)
    edit(tmp_path, "u1", "Likes", "Can only stand")
    loaded = Judge.load(tmp_path)
    assert loaded.personas["u1"].edited
    assert not loaded.personas["u0"].edited
    estimate = loaded.predict(examples)
    told = {parts(one)["asked"][0]: parts(one)["persona"][0] for one in server.requests[2:]}
    assert told[examples.inputs[1]].startswith("Can only stand ")
    assert told[examples.inputs[0]].startswith("Likes ")
    assert "1 of 2 users were judged by a persona that a person edited" in estimate.notes
    loaded.close()
    alone = Judge.load(tmp_path, user="u1")
    assert alone.personas == {"u1": loaded.personas["u1"]}
    alone.close()


def test_another_fit_keeps_what_was_edited_and_renews_the_rest(judge, tmp_path):
    _, _, examples = fitted(judge, tmp_path)
    path = edit(tmp_path, "u1", "Is like", "Is nothing like")
    content = path.read_bytes()
    model, _ = judge(judging(write=lambda found: persona("Somebody new", "Something new")))
    model.fit(examples, rng=0)
    assert model.personas["u1"].persona == "Somebody new"
    model.save(tmp_path)
    assert path.read_bytes() == content
    assert model.personas["u1"].rubrics[0].startswith("Is nothing like")
    assert model.personas["u0"].persona == "Somebody new"
    assert "Somebody new" in (tmp_path / FOLDER / "u0.toml").read_text()
    # The saved weights hold it too: they are whole without the files.
    for file in (tmp_path / FOLDER).iterdir():
        file.unlink()
    assert Judge.load(tmp_path).personas == model.personas


def test_saved_again_an_edited_persona_is_still_known_as_one(judge, tmp_path):
    fitted(judge, tmp_path / "one")
    edit(tmp_path / "one", "u0", "Likes", "Loves")
    loaded = Judge.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert Judge.load(tmp_path / "two").personas == loaded.personas
    assert list(read_edited(tmp_path / "two" / FOLDER)) == ["u0"]


def test_a_persona_written_by_hand_serves_who_has_no_labels(judge, tmp_path):
    _, server, _ = fitted(judge, tmp_path)
    hand = 'user = "u2"\npersona = "A poet"\nrubrics = ["Rhyme", "Metre"]\n'
    (tmp_path / FOLDER / file_name("u2")).write_text(hand)
    three = taste_examples(users=3, queries=1, candidates=3)
    for loaded in (Judge.load(tmp_path), Judge.load(tmp_path, user="u2")):
        before = len(server.requests)
        estimate = loaded.predict(three.take(three.user == 2))
        asked = server.requests[before:]
        assert {(parts(one)["persona"][0], parts(one)["rubric"][0]) for one in asked} == {
            ("A poet", "Rhyme"),
            ("A poet", "Metre"),
        }
        assert np.isfinite(estimate.mean).all()
        assert not any("without" in note for note in (*loaded.notes, *estimate.notes))
        loaded.close()


def test_personas_of_users_who_are_gone_go_too_but_for_edited_ones(judge, tmp_path):
    fitted(judge, tmp_path, users=4)
    edit(tmp_path, "u3", "Likes", "Loves")
    model, _, _ = fitted(judge, tmp_path, users=2)
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == ["u0.toml", "u1.toml", "u3.toml"]
    assert "u3" in model.personas


BROKEN = [
    ("persona = ", "what is not TOML .*; expected the persona of a user"),
    ('user = "u0"\npersona = "x"\nrubric = ["x"]', "unknown key 'rubric'; expected 'rubrics'"),
    ('user = "u0"\npersona = "x"', "rubrics: found no list of texts"),
    ('user = "u0"\npersona = "x"\nrubrics = []', "rubrics: found no list of texts"),
    ('user = "u0"\npersona = "x"\nrubrics = ["x", " "]', "rubrics: found no list of texts"),
    ('user = "u0"\npersona = ""\nrubrics = ["x"]', "persona: found no text"),
    ('persona = "x"\nrubrics = ["x"]', "user: found no text"),
    ('user = "u1"\npersona = "x"\nrubrics = ["x"]', "user: found 'u1'; expected another name for the file: u1.toml"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_file_that_is_no_persona_is_one_clear_line(judge, tmp_path, text, message):
    fitted(judge, tmp_path)
    path = tmp_path / FOLDER / "u0.toml"
    path.write_text(text)
    for user in (None, "u0"):
        with pytest.raises(InputError, match=rf"u0\.toml.*{message}") as caught:
            Judge.load(tmp_path, user=user)
        assert "\n" not in str(caught.value)


def test_an_edit_that_was_taken_back_is_none(judge, tmp_path):
    _, _, _ = fitted(judge, tmp_path)
    edit(tmp_path, "u0", "Likes", "Loves")
    edit(tmp_path, "u0", "Loves", "Likes")
    assert not Judge.load(tmp_path).personas["u0"].edited


def test_saving_fails_before_anything_is_written(judge, tmp_path):
    model, _ = judge(lambda request: error(401))
    with pytest.raises(Exception, match="after fit"):
        model.save(tmp_path)
    assert not (tmp_path / FOLDER).exists()
