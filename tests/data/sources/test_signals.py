"""Several signals of a row as one rating."""

import numpy as np
import pytest

from bestfor.data.sources.own import load_ratings
from bestfor.data.sources.signals import Signal
from bestfor.errors import InputError
from bestfor.runs.config import parse_config
from bestfor.runs.sources import read_ratings

ROWS = """user,text,thumb,edited,dwell,comment
a,one,true,0,30,fine
a,two,false,1,0,
a,three,,0,90,too long
b,one,,,,nothing to say
b,two,1,,,
"""


def save(folder):
    path = folder / "log.csv"
    path.write_text(ROWS)
    return path


def test_signals_are_weighed_over_those_that_a_row_has(tmp_path):
    signals = {"thumb": Signal(2.0), "edited": Signal(-1.0), "dwell": Signal(1.0, 0, 60)}
    found = load_ratings(save(tmp_path), signals=signals)
    ratings = {
        (found.users[u], found.texts[t]): r for u, t, r in zip(found.user, found.text, found.rating, strict=True)
    }
    assert ratings == pytest.approx({
        ("a", "one"): (2 + 1 + 0.5) / 4, ("a", "two"): 0.0, ("a", "three"): 1.0, ("b", "two"): 1.0,
    })  # fmt: skip
    assert "1 values of 'dwell' lie beyond 0 to 60: its ends count" in found.notes
    assert "1 rows without a rating were left out" in found.notes
    assert found.signature != load_ratings(save(tmp_path), signals={"thumb": Signal()}).signature


def test_a_run_file_declares_them(tmp_path):
    signals = {"thumb": 1, "edited": -0.5, "dwell": {"weight": 0.2, "low": 2, "high": 60}}
    data = {"source": "table", "path": str(save(tmp_path)), "signals": signals}
    config = parse_config({"data": data, "reward": [{"kind": "length"}]}, "run.toml")
    assert len(read_ratings(config).rating) == 4
    assert config.model_dump()["data"]["signals"]["thumb"] == {"weight": 1.0, "low": 0.0, "high": 1.0}
    plain = {"source": "table", "path": "x.csv"}
    written = parse_config({"data": plain, "reward": [{"kind": "length"}]}, "run.toml").model_dump()
    assert "signals" not in written["data"]


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        ({"thumb": 0}, "a weight other than 0"),
        ({"thumb": {"low": 1, "high": 1}}, "low below high"),
        ({"thumb": {"wait": 1}}, "wait"),
        ({"thumb": "much"}, "signals"),
    ],
)
def test_what_is_no_signal_is_refused(tmp_path, signals, message):
    data = {"source": "table", "path": str(save(tmp_path)), "signals": signals}
    with pytest.raises(InputError, match=message):
        parse_config({"data": data, "reward": [{"kind": "length"}]}, "run.toml")


def test_columns_and_cells_are_named(tmp_path):
    with pytest.raises(InputError, match="no column 'liked'"):
        load_ratings(save(tmp_path), signals={"liked": Signal()})
    with pytest.raises(InputError, match="found a rating and signals"):
        load_ratings(save(tmp_path), {"rating": "dwell"}, signals={"thumb": Signal()})
    with pytest.raises(InputError, match="row 1, column 'comment': found 'fine'; expected a number"):
        load_ratings(save(tmp_path), signals={"comment": Signal()})
    with pytest.raises(InputError, match="weight 0"):
        Signal(0.0)


def test_comments_stand_with_their_ratings(tmp_path):
    found = load_ratings(save(tmp_path), {"rating": "dwell"})
    said = {found.texts[t]: text for u, t, text in zip(found.user, found.text, found.comment, strict=True)}
    assert said == {"one": "fine", "two": "", "three": "too long"}
    assert load_ratings(save(tmp_path), {"rating": "dwell", "comment": "remark"}).comment is None
    assert np.isfinite(found.rating).all()
