"""Real pandas and polars frames go straight into a diagnosis."""

import numpy as np
import pyarrow as pa
import pytest

from bestfor.diagnostics import Settings, diagnose_arrays
from bestfor.errors import InputError
from bestfor.runs import table as scores
from bestfor.runs.table import TableColumns, diagnose_table
from support import later

pandas = later("pandas")
polars = later("polars")


SETTINGS = Settings(n=[1, 2, 5], name="t", signature={"data": "d"})


def columns():
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(24), 6)
    utility = rng.normal(size=len(query)).round(1)
    reward = utility + rng.normal(size=len(query))
    reward[7] = np.nan
    return {"user": query // 3, "query": query, "reward": reward, "utility": utility}


def texts(values):
    return [f"u{one}é" for one in values.tolist()]


FRAMES = {
    "pandas": lambda table, named: pandas.DataFrame(table),
    "pandas, index and strings": lambda table, named: pandas.DataFrame(named).set_index(np.arange(144) + 7),
    "pandas, categories": lambda table, named: pandas.DataFrame(named).astype({"user": "category"}),
    "pandas, nullable": lambda table, named: pandas.DataFrame(table).convert_dtypes(),
    "polars": lambda table, named: polars.DataFrame(table),
    "polars, strings": lambda table, named: polars.DataFrame(named),
    "polars, categories": lambda table, named: polars.DataFrame(named).with_columns(
        polars.col("user").cast(polars.Categorical)
    ),
    "polars, chunks": lambda table, named: polars.concat(
        [polars.DataFrame(table)[:50], polars.DataFrame(table)[50:]], rechunk=False
    ),
}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", sorted(FRAMES))
def test_a_frame_is_its_columns(name, large, monkeypatch):
    if large:
        monkeypatch.setattr(scores, "LARGE", 10)
    table = columns()
    frame = FRAMES[name](table, table | {"user": texts(table["user"])})
    found = diagnose_table(frame, settings=SETTINGS)
    expected = diagnose_arrays(table["user"], table["query"], table["utility"], {"reward": table["reward"]}, SETTINGS)
    assert found.dropped.not_finite == expected.dropped.not_finite == 1
    model, other = found.models["reward"], expected.models["reward"]
    for curve in ("utility", "captured"):
        for end in ("value", "low", "high"):
            np.testing.assert_allclose(
                getattr(getattr(model, curve), end), getattr(getattr(other, curve), end), rtol=1e-10
            )
    assert model.quantities.rho.value == pytest.approx(other.quantities.rho.value)
    assert found.users == 8


def test_a_lazy_frame_and_a_frame_without_a_column_are_told():
    with pytest.raises(InputError, match="no column 'utility'"):
        diagnose_table(polars.DataFrame(columns()).drop("utility"))
    with pytest.raises(InputError, match="no column 'utility'"):
        diagnose_table(pandas.DataFrame(columns()).drop(columns="utility"))
    with pytest.raises(InputError, match="Arrow"):
        diagnose_table({"user": [1]})


def test_frames_with_words_for_numbers_name_the_row():
    wrong = pandas.DataFrame(columns()).astype({"reward": object})
    wrong.loc[3, "reward"] = "high"
    with pytest.raises(InputError, match="reward"):
        diagnose_table(wrong)
    words = polars.DataFrame(columns()).with_columns(polars.lit("high").alias("reward"))
    with pytest.raises(InputError, match="row 1, column 'reward': found 'high'"):
        diagnose_table(words)
    renamed = pa.table(columns()).rename_columns(["who", "query", "reward", "utility"])
    assert diagnose_table(renamed, TableColumns(user="who"), SETTINGS).users == 8
