import subprocess
import sys

import numpy as np
import pytest

from bestfor.diagnostics import Diagnosis
from bestfor.errors import InputError
from bestfor.report.shown import choose_model, shown_models
from support import later

figure = later("matplotlib.figure")
plots = later("bestfor.report.picture", "matplotlib")


def shown(diagnosis, name="hierarchical"):
    """A model as the plots take it."""
    return choose_model(Diagnosis.from_dict(diagnosis), name)


def axes():
    return figure.Figure().add_subplot()


def test_ledger_adds_up_on_the_way(diagnosis):
    plot = plots.WaterfallPlot.of(shown(diagnosis))
    assert plot is not None
    ledger = diagnosis["models"]["hierarchical"]["ledger"]
    assert plot.before[0] == ledger["law"]
    assert plot.before[-1] + plot.steps[-1] == pytest.approx(ledger["observed"])
    picture = axes()
    plot.draw(picture)
    assert [bar.get_width() for bar in picture.patches] == pytest.approx(plot.steps.tolist())


def test_an_unknown_term_means_no_ledger(diagnosis):
    diagnosis["models"]["pooled"]["ledger"]["shape"] = None
    assert plots.WaterfallPlot.of(shown(diagnosis, "pooled")) is None


def test_curves_hold_the_numbers_given(diagnosis):
    report = Diagnosis.from_dict(diagnosis)
    plot = plots.CurvesPlot.utility(report)
    assert [line.name for line in plot.lines] == ["hierarchical", "pooled", "length"]
    np.testing.assert_array_equal(plot.lines[1].value, diagnosis["models"]["pooled"]["utility"])
    picture = axes()
    plot.draw(picture)
    np.testing.assert_array_equal(picture.lines[0].get_ydata(), plot.lines[0].value)
    shares = plots.CurvesPlot.captured(report)
    assert shares.n.tolist() == [2, 4, 8, 16]
    assert np.isfinite(shares.lines[0].value).all()


def test_laws_lie_over_the_gain(diagnosis):
    plot = plots.LawPlot.of(shown(diagnosis))
    assert plot is not None
    np.testing.assert_allclose(plot.observed.value, diagnosis["models"]["hierarchical"]["gain"])
    for key in ("gain", "gain_low", "gain_high"):
        del diagnosis["models"]["hierarchical"][key]
    older = plots.LawPlot.of(shown(diagnosis))
    assert older is not None
    np.testing.assert_allclose(older.observed.value, plot.observed.value)
    assert np.isnan(older.observed.low).all()


def test_user_histogram_counts_everybody_once(diagnosis):
    users = diagnosis["models"]["hierarchical"]["per_user"]
    users[0]["captured"], users[1]["captured"], users[2]["captured"] = -7.0, 5.0, None
    plot = plots.UsersPlot.of(shown(diagnosis))
    _, every, collapsed = plot.histogram()
    known = [user for user in users if user["captured"] is not None]
    assert every.sum() == len(known) == len(users) - plot.absent
    assert collapsed.sum() == sum(user["collapsed"] for user in known)
    assert plot.names[0] == users[0]["user"]


def test_correlations_below_zero_are_told_apart(diagnosis):
    plot = plots.CorrelationPlot.of(shown(diagnosis))
    assert plot is not None
    assert plot.negative.sum() == 10
    given = diagnosis["models"]["hierarchical"]["correlations"]["counts"]
    assert plot.counts.sum() == sum(given) == diagnosis["models"]["hierarchical"]["quantities"]["active_queries"]
    assert plot.counts[plot.negative].sum() == sum(given[:10]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_pictures_have_the_same_bytes_each_time(diagnosis, tmp_path, suffix):
    for name in ("one", "two"):
        plots.save(tmp_path / f"{name}.{suffix}", diagnosis)
    assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"one.{suffix}", f"two.{suffix}"]


@pytest.mark.slow
def test_pictures_of_awkward_diagnoses(make, bare, tmp_path):
    plots.save(tmp_path / "bare.png", bare)
    plots.save(tmp_path / "odd.png", make(("costs $5 or $x_{", "日本語", "length")), model="日本語")
    assert (tmp_path / "bare.png").stat().st_size > 0
    assert (tmp_path / "odd.png").stat().st_size > 0


def test_every_plot_draws(diagnosis):
    for plot in (plots.UsersPlot.of(shown(diagnosis)), plots.ComparisonsPlot.of(Diagnosis.from_dict(diagnosis))):
        picture = axes()
        plot.draw(picture)
        assert picture.collections


def test_bad_requests_are_refused(diagnosis, tmp_path):
    with pytest.raises(InputError, match="'nobody'"):
        plots.save(tmp_path / "a.png", diagnosis, model="nobody")
    with pytest.raises(InputError, match=r"\.gif"):
        plots.save(tmp_path / "a.gif", diagnosis)
    diagnosis["models"] = {}
    with pytest.raises(InputError, match="no models"):
        plots.save(tmp_path / "a.png", diagnosis)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_matplotlib_is_imported_only_to_draw():
    code = (
        "import bestfor.report.picture, bestfor.report, sys; print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_beyond_the_pool_goes_on_where_the_curve_ends(diagnosis):
    model = shown(diagnosis)
    plot = plots.BeyondPlot.of(model)
    assert plot is not None
    reach = diagnosis["models"]["hierarchical"]["extrapolation"]
    steps = reach["steps"]
    assert plot.far.tolist() == [step["n"] for step in steps]
    np.testing.assert_array_equal(plot.predicted["gao"], [step["gao"] for step in steps])
    assert plot.trusted_to == reach["trusted_to"] == [step["n"] for step in steps if step["trusted"]][-1]
    picture = axes()
    plot.draw(picture)
    assert {line.get_linestyle() for line in picture.lines} >= {"--", "-", ":"}
    assert "order 2" in [text.get_text() for text in picture.get_legend().get_texts()]
    diagnosis["models"]["pooled"]["extrapolation"]["steps"] = []
    assert plots.BeyondPlot.of(shown(diagnosis, "pooled")) is None


def test_reliability_holds_the_bins_and_their_diagonal(diagnosis):
    plot = plots.ReliabilityPlot.of(shown(diagnosis))
    assert plot is not None
    given = diagnosis["models"]["hierarchical"]["calibration"]["reliability"]
    np.testing.assert_array_equal(plot.observed, given["observed"])
    picture = axes()
    plot.draw(picture)
    diagonal, bins = picture.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == list(plot.ends)
    np.testing.assert_array_equal(bins.get_xdata(), given["predicted"])
    assert picture.get_xlim() == picture.get_ylim() == plot.ends
    low, high = plot.ends
    assert low < min(given["predicted"])
    assert high > max(given["high"])
    assert plots.ReliabilityPlot.of(shown(diagnosis, "pooled")) is None


def test_one_bin_without_an_interval_still_has_axes(diagnosis):
    bins = {"candidates": [3], "predicted": [0.5], "observed": [0.5], "low": [None], "high": [None]}
    diagnosis["models"]["hierarchical"]["calibration"].update(reliability=bins, pit=[])
    model = shown(diagnosis)
    plot = plots.ReliabilityPlot.of(model)
    assert plot is not None
    assert plot.ends == (0.45, 0.55)
    plot.draw(axes())
    assert plots.PitPlot.of(model) is None


def test_pit_bars_sum_to_everybody(diagnosis):
    plot = plots.PitPlot.of(shown(diagnosis))
    assert plot is not None
    picture = axes()
    plot.draw(picture)
    assert sum(bar.get_height() for bar in picture.patches) == pytest.approx(1.0)
    assert picture.lines[0].get_ydata()[0] == 1 / 20


def test_captured_is_drawn_up_to_everything(diagnosis):
    diagnosis["models"]["hierarchical"]["captured_high"][-1] = 1.2
    line = plots.CurvesPlot.captured(Diagnosis.from_dict(diagnosis)).lines[0]
    assert line.high[-1] == 1.0
    assert line.high[0] == diagnosis["models"]["hierarchical"]["captured_high"][1]


def test_every_plot_is_drawn_by_its_name(diagnosis):
    found = Diagnosis.from_dict(diagnosis)
    for what in (*plots.WHOLE, *plots.OF_MODEL):
        picture = found.plot(what)
        assert picture.has_data(), what
    own = axes()
    assert found.plot("users", "pooled", axes=own) is own
    assert own.get_ylabel() == "captured share"


def test_a_plot_that_cannot_be_is_refused_in_one_line(diagnosis):
    found = Diagnosis.from_dict(diagnosis)
    with pytest.raises(InputError, match=r"'captures'.*captured"):
        found.plot("captures")
    with pytest.raises(InputError, match="no model 'nobody'"):
        found.plot("law", "nobody")
    with pytest.raises(InputError, match="nothing to show as 'pit'"):
        found.plot("pit", "pooled")


def test_the_first_shown_model_is_the_best_that_learns(diagnosis):
    diagnosis["models"]["length"]["captured"][-1] = 0.99
    diagnosis["models"]["pooled"]["captured"][-1] = 0.98
    found = Diagnosis.from_dict(diagnosis)
    assert choose_model(found).name == "pooled"
    assert [(one.name, one.index, one.quiet) for one in shown_models(found)] == [
        ("hierarchical", 0, False),
        ("pooled", 1, False),
        ("length", 2, True),
    ]
    diagnosis["models"]["pooled"]["baseline"] = True
    assert choose_model(Diagnosis.from_dict(diagnosis)).name == "hierarchical"
