import numpy as np
import pytest

from bestfor.data.sources.polis import load_polis
from bestfor.data.split import SplitConfig, split_ratings
from bestfor.errors import InputError

COMMENTS = """timestamp,datetime,comment-id,author-id,agrees,disagrees,moderated,comment-body
10,x,0,7,1,1,1,"Buses, late
and full"
20,x,1,8,1,1,1,More trees
30,x,2,9,1,1,-1,spam
"""
VOTES = """participant,group-id,n-comments,n-votes,n-agree,n-disagree,0,1,2
7,0,1,2,1,0,1,-1,1
8,,1,2,1,0,0,1,
9,1,1,1,1,0,,1,-1
"""


def export(folder, comments=COMMENTS, votes=VOTES):
    (folder / "comments.csv").write_text(comments, encoding="utf-8")
    (folder / "participants-votes.csv").write_text(votes, encoding="utf-8")
    return folder


def test_own_and_unmoderated_votes_are_left_out(tmp_path):
    ratings = load_polis(export(tmp_path))
    rows = {
        (ratings.users[u], ratings.text_ids[t], r)
        for u, t, r in zip(ratings.user, ratings.text, ratings.rating, strict=True)
    }
    assert rows == {("7", "1", -1.0), ("8", "0", 0.0), ("9", "1", 1.0)}
    assert ratings.texts[ratings.text_ids.index("0")] == "Buses, late\nand full"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("7,0,1,2,1,0,1,-1,1", "7,0,1,2,1,0,1,2,1", "row 1, column '1': found '2'; expected -1, 0, 1 or nothing"),
        ("participant", "person", "no column 'participant'"),
    ],
)
def test_bad_votes_name_the_place(tmp_path, old, new, message):
    with pytest.raises(InputError) as caught:
        load_polis(export(tmp_path, votes=VOTES.replace(old, new)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        load_polis(tmp_path / "nowhere")
    (export(tmp_path) / "participants-votes.csv").unlink()
    with pytest.raises(InputError, match=r"participants-votes\.csv: found no file"):
        load_polis(tmp_path)
    with pytest.raises(InputError, match="no comment with moderated = 1"):
        load_polis(export(tmp_path, comments=COMMENTS.replace(",1,1,1,", ",1,1,0,")))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "min_test", "users"),
    [
        ("american-assembly.bowling-green", 16, 1096),
        ("scoop-hivemind.taxes", 8, 261),
        ("canadian-electoral-reform", 8, 129),
    ],
)
def test_published_protocol_on_real_exports(polis_dir, name, min_test, users):
    data = split_ratings(load_polis(polis_dir / name), SplitConfig(min_test=min_test))
    test = data.queries.filter(np.array(data.queries["split"].to_pylist()) == "test")
    assert len(set(test["user_id"].to_pylist())) == users
    assert set(data.utilities["utility"].to_pylist()) == {-1.0, 0.0, 1.0}
