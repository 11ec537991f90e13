import pytest

from bestfor.errors import InputError
from bestfor.runs.config import load_config, parse_config
from bestfor.runs.stages import settings_of

GOOD = """
name = "t"
[data]
source = "polis"
path = "x"
[split]
fold = "all"
[[reward]]
kind = "pooled"
[[reward]]
kind = "pooled"
name = "second"
[diagnosis]
n = [1, 2]
"""


def write(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_file(tmp_path):
    config = load_config(write(tmp_path, GOOD))
    assert config.door == "ratings"
    assert config.split.fold == "all"
    assert [reward.label for reward in config.reward] == ["pooled", "second"]


def test_a_price_and_the_noise_of_ratings_reach_the_diagnosis(tmp_path):
    config = load_config(write(tmp_path, GOOD + 'price = "0.1 sd"\nnoise = 0.4\n'))
    settings = settings_of(config, "t")
    assert (settings.price, settings.noise) == ("0.1 sd", 0.4)
    assert settings.signature_entries()["noise"] == 0.4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('fold = "all"', "min_ft = 3", "[split]: found unknown key 'min_ft'; expected 'min_fit' (did you mean it?)"),
        ('name = "t"', 'nme = "t"', "found unknown key 'nme'; expected 'name'"),
        ('path = "x"', 'pat = "x"', "found unknown key 'pat'; expected 'path'"),
        ('path = "x"', "", "[data]: found no 'path'"),
        ('source = "polis"', 'source = "polish"', "[data] source: found 'polish'; expected one of"),
        ('kind = "pooled"\n[[', 'kind = "poold"\n[[', "[[reward]] 1: found kind 'poold'; expected 'pooled'"),
        ('name = "second"', "", "two models named 'pooled'"),
        ('name = "second"', 'name = "second"\nencodr = "x"', "unknown key 'encodr'; expected 'encoder'"),
        ('name = "second"', 'name = "../second"', "'../second'"),
        ("n = [1, 2]", "n = [0]", "[diagnosis"),
        ("n = [1, 2]", 'rules = ["tpo:3"]', "[diagnosis] rules, rule: found 'tpo:3'; expected best, second"),
        ("n = [1, 2]", 'rules = ["thompson"]', "[diagnosis] rules, rule thompson: found no standard deviations"),
        ("n = [1, 2]", "noise = -1.0", "[diagnosis] noise: found -1.0; expected"),
        ("n = [1, 2]", "noise = inf", "[diagnosis] noise: found inf; expected"),
        ("n = [1, 2]", 'noise = "much"', "[diagnosis] noise: found 'much'; expected"),
        ("[diagnosis]", "[policy]\nn = 3\n[diagnosis]", "found a table [policy]; expected none"),
        ('fold = "all"', "fold = 3", "[split] fold"),
        ("[split]", "[split", "not TOML"),
    ],
)
def test_one_line_names_place_and_remedy(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        load_config(write(tmp_path, GOOD.replace(old, new, 1)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "run.toml" in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="found no file"):
        load_config(tmp_path / "gone.toml")


def test_the_primary_metric_must_be_measured():
    raw = {"data": {"source": "world"}, "reward": [{"kind": "length"}]}
    with pytest.raises(InputError, match="primary"):
        parse_config(raw | {"utility": {"metrics": ["rougeL"], "primary": "taste"}}, "here")
