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
        load_polis(export(tmp_path, comments=COMMENTS.replace(",1,1,1,", ",1,1,0,")), "accepted")
    with pytest.raises(InputError, match="no comment that was accepted, or that others than its author voted on"):
        load_polis(export(tmp_path, comments=COMMENTS.replace(",1,1,1,", ",1,1,-1,")))
    with pytest.raises(InputError, match="no vote column of a comment"):
        load_polis(export(tmp_path, votes=VOTES.replace(",0,1,2\n", ",a,b,c\n")))


def rows_of(ratings):
    return {
        (ratings.users[u], ratings.text_ids[t], r)
        for u, t, r in zip(ratings.user, ratings.text, ratings.rating, strict=True)
    }


PLAIN = {("7", "1", -1.0), ("8", "0", 0.0), ("9", "1", 1.0)}


def with_columns(head, cells, at=1):
    """The votes with further columns after the first ones."""
    lines = [line.split(",") for line in VOTES.strip().splitlines()]
    added = [head, *cells]
    return "\n".join(",".join([*line[:at], *more, *line[at:]]) for line, more in zip(lines, added, strict=True)) + "\n"


@pytest.mark.parametrize(
    "votes",
    [
        with_columns(["xid"], [["ann@example.org"], [""], ["5"]]),
        with_columns(["xid", "importance", "3"], [["a", "high", "x"]] * 3, at=7),
        VOTES.replace("participant,", "voter-id,"),
        VOTES.replace(",0,1,2\n", ",0.0,1.0,2.0\n").replace("7,0,1,2,1,0,1,-1,1", "7.0,0,1,2,1,0,1.0,-1.0,1.0"),
        VOTES.replace("9,1,1,1,1,0,,1,-1", "9,1,1,1,1,0,NaN,1.0,-1.0"),
    ],
)
def test_columns_of_statements_are_votes_and_no_others(tmp_path, votes):
    assert rows_of(load_polis(export(tmp_path, votes=votes))) == PLAIN


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("comment-id,author-id,agrees,disagrees,moderated,comment-body", "tid,pid,agrees,disagrees,mod,txt"),
        ("comment-id,author-id", "comment_id,author_id"),
        (",1,1,1,", ",1,1,1.0,"),
        ("10,x,0,7,", "10,x,0.0,7.0,"),
    ],
)
def test_newer_names_and_numbers_of_other_tools_are_read(tmp_path, old, new):
    assert rows_of(load_polis(export(tmp_path, comments=COMMENTS.replace(old, new)))) == PLAIN


def test_the_file_of_a_report_is_read(tmp_path):
    folder = export(tmp_path)
    (folder / "participants-votes.csv").rename(folder / "participant-votes.csv")
    assert rows_of(load_polis(folder)) == PLAIN


def test_an_identity_is_never_printed(tmp_path):
    votes = with_columns(["xid"], [["ann@example.org"]] * 3).replace(",1,-1,1\n", ",1,5,1\n")
    with pytest.raises(InputError) as caught:
        load_polis(export(tmp_path, votes=votes))
    assert "row 1, column '1': found '5'; expected -1, 0, 1 or nothing" in str(caught.value)
    assert "example.org" not in str(caught.value)


def test_statements_that_were_shown_without_a_moderator_are_kept_and_counted(tmp_path):
    # the author of 1 alone voted on it; 0 was shown to others; 2 was rejected
    comments = COMMENTS.replace(",1,1,1,", ",1,1,0,")
    folder = export(tmp_path, comments=comments, votes=VOTES.replace("1,-1,1\n", "1,,1\n").replace("0,,1,-1", "0,,,-1"))
    shown = load_polis(folder)
    assert rows_of(shown) == {("8", "0", 0.0)}
    assert shown.notes[0] == "2 of 3 statements (1 vote) left out: not accepted by a moderator"
    assert shown.notes[1].startswith("1 of 3 statements (1 votes) were kept that no moderator looked at")
    # without the column nobody was moderated
    lines = [line.split(",") for line in ["timestamp,comment-id,author-id,comment-body", "1,0,7,Buses", "2,1,8,Trees"]]
    unmoderated = export(tmp_path, comments="\n".join(",".join(line) for line in lines) + "\n")
    assert {row[1] for row in rows_of(load_polis(unmoderated))} == {"0", "1"}


def test_settings_of_moderation_are_different_data(tmp_path):
    comments = COMMENTS.replace("10,x,0,7,1,1,1", "10,x,0,7,1,1,0")
    shown, accepted = (load_polis(export(tmp_path, comments=comments), one) for one in ("shown", "accepted"))
    assert {row[1] for row in rows_of(shown)} == {"0", "1"}
    assert {row[1] for row in rows_of(accepted)} == {"1"}
    assert accepted.notes[0] == "2 of 3 statements (2 votes) left out: not accepted by a moderator"
    assert shown.signature != accepted.signature


def test_one_row_a_participant_and_one_comment_an_id(tmp_path):
    with pytest.raises(InputError, match="participant '8' twice"):
        load_polis(export(tmp_path, votes=VOTES.replace("9,1,1", "8.0,1,1")))
    with pytest.raises(InputError, match="comment '1' twice"):
        load_polis(export(tmp_path, comments=COMMENTS.replace("30,x,2,", "30,x,1,")))


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
