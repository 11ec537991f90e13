from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bestfor.endpoint.tables import EndpointTable
from bestfor.errors import InputError
from bestfor.runs.config import parse_config
from bestfor.validation import HIDDEN, shown, validated

SECRET = "Xq7-hush"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Square(Section):
    shape: Literal["square"]
    side: float = Field(gt=0)


class Circle(Section):
    shape: Literal["circle", "disc"]
    radius: float = 1.0


class Inner(Section):
    depth: int
    colour: Literal["red", "green"] = "red"
    endpoint: EndpointTable = EndpointTable()


class Outer(Section):
    name: str = Field(default="", min_length=2)
    size: int | str | None = None
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    named: dict[str, Inner] = {}
    either: Inner | int = 0
    figure: Annotated[Square | Circle, Field(discriminator="shape")] | None = None
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _ordered(self):
        if self.low >= self.high:
            raise ValueError(f"low below high = {self.high},\nand see http://ann:{SECRET}@host")
        return self


class Served(Section):
    size: int = 0
    base_url: Any = ""
    endpoint: Any = None

    @model_validator(mode="after")
    def _fits(self):
        raise ValueError("something else")


def line(kind, values):
    with pytest.raises(InputError) as caught:
        validated(kind, values, lambda wrong: InputError(wrong.place or "top", wrong.found, wrong.expected))
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nme": "ab"}, "top: found unknown key 'nme'; expected 'name' (did you mean it?)"),
        ({"zzz": 1}, "top: found unknown key 'zzz'; expected one of name, size, inner,"),
        ({"inner": {}}, "inner: found no 'depth'; expected it to be given"),
        ({"inner": {"dept": 1}}, "inner: found unknown key 'dept'; expected 'depth'"),
        ({"inner": {"depth": "deep"}}, "inner.depth: found 'deep'; expected a valid integer"),
        ({"inner": {"depth": 1, "colour": "rde"}}, "inner.colour: found 'rde'; expected 'red' or 'green'"),
        ({"inner": 3}, "inner: found 3; expected a table"),
        ({"inner": {"depth": [{"a": 1}]}}, "inner.depth: found a list; expected"),
        ({"inner": {"depth": [1, "x"]}}, "inner.depth: found [1, 'x']; expected"),
        ({"inner": {"depth": {"a": 1}}}, "inner.depth: found a table; expected"),
        (
            {"inner": {"depth": 1, "endpoint": {"timeout": 0}}},
            "inner.endpoint.timeout: found 0; expected greater than 0",
        ),
        (
            {"inner": {"depth": 1, "endpoint": {"retry": 0}}},
            "inner.endpoint: found unknown key 'retry'; expected 'retries'",
        ),
        ({"inners": [{"depth": 1}, {"dept": 1}]}, "inners.1: found unknown key 'dept'; expected 'depth'"),
        ({"named": {"a": {"dept": 1}}}, "named.a: found unknown key 'dept'; expected 'depth'"),
        ({"either": {"dept": 1}}, "either: found unknown key 'dept'; expected 'depth'"),
        ({"size": [1]}, "size: found [1]; expected a valid integer"),
        ({"name": "a"}, "name: found 'a'; expected string should have at least 2 characters"),
        ({"figure": {"shape": "square", "sid": 1}}, "figure: found unknown key 'sid'; expected 'side'"),
        ({"figure": {"shape": "disc", "radios": 1}}, "figure: found unknown key 'radios'; expected 'radius'"),
        ({"figure": {"shape": "disc", "zzz": 1}}, "figure: found unknown key 'zzz'; expected one of radius"),
        ({"figure": {"shape": "square", "side": 0}}, "figure.side: found 0; expected greater than 0"),
        ({"figure": {"shape": "circel"}}, "figure.shape: found 'circel'; expected one of square, circle, disc"),
        ({"figure": {}}, "figure.shape: found nothing; expected one of square, circle, disc"),
        ({"low": 2}, "top: found keys that do not fit together; expected low below high = 1, and see an address"),
        ({"name": f"http://ann:{SECRET}@host", "low": f"http://ann:{SECRET}@host"}, f"low: found {HIDDEN}; expected"),
        ({f"http://ann:{SECRET}@host": 1}, "top: found an unknown key; expected one of"),
    ],
)
def test_one_line_names_place_and_remedy(values, message):
    found = line(Outer, values)
    assert message in found
    assert SECRET not in found


def test_a_misspelt_key_explains_the_one_that_is_missing():
    assert line(Square, {"shape": "square", "seide": 1}).startswith("top: found unknown key 'seide'")


def test_what_is_right_is_built():
    built = validated(Outer, {"inner": {"depth": 3}, "figure": {"shape": "disc"}}, lambda wrong: InputError("", "", ""))
    assert built == Outer(inner=Inner(depth=3), figure=Circle(shape="disc"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (0.5, "0.5"),
        ("a b", "'a b'"),
        ("s3://b/k", HIDDEN),
        ([], "[]"),
        (("a", 1), "('a', 1)"),
        (["x://y"], "a list"),
        ({}, "a table"),
        (Circle(shape="disc"), "a table"),
        (object(), HIDDEN),
    ],
)
def test_values_are_shown_unless_they_may_hold_a_secret(value, text):
    assert shown(value) == text


secrets = st.sampled_from([SECRET, f"http://ann:{SECRET}@host/v1", f"host/v1?key={SECRET}"])
plain = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), secrets)
keys = st.one_of(st.sampled_from([*EndpointTable.model_fields, "retry", "x"]), secrets)
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3))
tables = st.one_of(st.dictionaries(keys, anything, max_size=4), anything)


def silent(build):
    said = ""
    try:
        build()
    except InputError as error:  # most examples raise, some are right
        said = str(error)
    assert SECRET not in said
    assert "\n" not in said


@given(tables, st.sampled_from(["depth", "dept"]))
def test_no_secret_of_a_table_within_is_ever_shown(table, key):
    def error(wrong):
        return InputError(wrong.place, wrong.found, wrong.expected)

    inner = {key: 1, "endpoint": table}
    for values in ({"inner": inner}, {"inners": [inner]}, {"named": {"a": inner}}, {"either": inner}, {"size": inner}):
        silent(lambda values=values: validated(Outer, values, error))
        silent(lambda values=values: validated(Outer, values | {"low": 2}, error))
    for values in ({"endpoint": table}, {"base_url": table}, {"size": {"base_url": table}}):
        silent(lambda values=values: validated(Served, values, error))


@given(anything, st.sampled_from(["base_url", "endpoint"]), st.sampled_from(["judge", "policy", "reward", "primary"]))
def test_no_secret_of_a_runs_file_is_ever_shown(value, key, place):
    table = {"base_url": value} if key == "base_url" else value
    raw = {"data": {"source": "world"}, "reward": [{"kind": "length"}]}
    judge = {"model": "m", "endpoint": table}
    raw |= {
        "judge": {"utility": {"judge": judge, "metrics": 3}},
        "policy": {"policy": {"kind": "openai", "n": "many", "endpoint": table}},
        "reward": {"reward": [{"kind": "judge", "model": "m", "rounds": 3, "endpoint": table}]},
        "primary": {"utility": {"judge": judge, "metrics": ["judge"], "primary": "taste"}},
    }[place]
    silent(lambda: parse_config(raw, "run.toml"))


@pytest.mark.parametrize("place", ["utility", "reward"])
def test_a_table_that_fails_as_a_whole_does_not_show_its_address(place):
    endpoint = {"base_url": f"http://ann:{SECRET}@host/v1"}
    raw = {"data": {"source": "world"}, "reward": [{"kind": "length"}]}
    judge = {"model": "m", "endpoint": endpoint}
    raw |= {
        "utility": {"utility": {"metrics": ["judge"], "primary": "taste", "judge": judge}},
        "reward": {"reward": [{"kind": "judge", "mode": "pointwise", "rounds": 3, **judge}]},
    }[place]
    expected = {
        "utility": r"\[utility\]: found keys that do not fit together; expected primary 'taste' among metrics",
        "reward": r"\[\[reward\]\] 1.*; expected no rounds with mode",
    }[place]
    with pytest.raises(InputError, match=expected) as caught:
        parse_config(raw, "run.toml")
    assert SECRET not in str(caught.value)
