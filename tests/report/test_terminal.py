import io

import pytest
from rich.console import Console

from bestfor.errors import InputError
from bestfor.report import print_summary
from bestfor.report.terminal import _whole_findings, sparkline
from bestfor.report.words import decimals, number, percent, span


def printed(diagnosis, width: int, verbose: bool = True) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_summary(diagnosis, console, verbose=verbose)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_fits_and_says_what_matters(make, width):
    names = ("hierarchical", "a-very-long-name-of-a-reward-model/Qwen2.5-1.5B-Instruct-lora", "length")
    diagnosis = make(names, folds=3)
    text = printed(diagnosis, width)
    assert max(len(line) for line in text.splitlines()) <= width
    model = diagnosis["models"]["hierarchical"]
    assert percent(model["captured"][-1]) in text
    assert span(model["captured_low"][-1], model["captured_high"][-1]) in text
    assert "12 users without fit labels were served by pooled" in text
    left_out = diagnosis["dropped"]["too_few_candidates"]
    assert f"{left_out} queries have fewer candidates than the largest N and were left out." in text
    assert "mean of 3 folds" in text
    assert "…%" not in text
    words = " ".join(text.split())
    reach = f"the gain at N = {model['extrapolation']['trusted_to']} lies between"
    assert f"beyond the pool: if the curve goes on as within the pool, {reach}" in words
    said = [f"{one['n']} at {100 * one['price']:g}% of the headroom a doubling" for one in model["best_n"]]
    assert f"N with the highest gain less its price: {said[0]} (pays); {said[1]}" in words
    rule = model["rules"][0]
    digits = decimals(rule["difference"])
    value, low, high = (number(rule[key][-1], digits) for key in ("difference", "difference_low", "difference_high"))
    assert value.startswith("\N{MINUS SIGN}")
    assert f"other rules against the highest reward at N = 16: top:2 {value} ({low} to {high})" in words
    assert "pays: N with the highest gain less its price, 2% of the headroom a doubling." in words
    factor = model["calibration"]["temperature"] ** 0.5
    assert f"std: it is too sure: errors are {factor:.2f} times what its std says" in words
    assert "the curve here is exact over all draws and adds none" in words


@pytest.mark.slow
def test_a_difference_that_chance_explains_is_undecided(make):
    diagnosis = make(("hierarchical", "pooled", "length"))
    better = {
        pair["against"]: pair for pair in diagnosis["comparisons"] if pair["n"] == 16 and pair["model"] != "pooled"
    }
    assert better["pooled"]["low"] < 0 < better["pooled"]["high"]
    assert better["length"]["low"] > 0
    lines = printed(diagnosis, 120).splitlines()
    for other, verdict in (("pooled", "undecided"), ("length", "better")):
        assert next(line for line in lines if f"hierarchical against {other}" in line).rstrip().endswith(verdict)


def test_why_nothing_is_corrected_is_the_reason_of_the_diagnosis(make):
    diagnosis = make(("hierarchical",))
    quantities = diagnosis["models"]["hierarchical"]["quantities"]
    quantities["corrected"] = None
    quantities["reasons"]["corrected"] = "utilities do not vary within queries"
    said = " ".join(printed(diagnosis, 120).split())
    assert "as counted; corrected not available: utilities do not vary within queries." in said
    assert "fewer than 20 candidates" not in said


def test_names_in_the_signature_are_whole_and_digests_are_cut(make):
    diagnosis = make(("hierarchical",))
    diagnosis["signature"]["policy"] = "american-assembly.bowling-green"
    said = printed(diagnosis, 200)
    assert "policy american-assembly.bowling-green" in said
    assert "data 5f0c5f0c5f0c5f0…" in said
    diagnosis["signature"]["data"] = "sha256:" + 16 * "5f0c"
    assert "data sha256:5f0c5f0c…" in printed(diagnosis, 200)


def test_only_the_largest_n_is_compared(diagnosis):
    assert printed(diagnosis, 100).count("hierarchical against pooled") == 1


def test_nulls_are_explained(bare):
    text = printed(bare, 80)
    assert "None" not in text
    assert "pools hold fewer than 20 candidates" in " ".join(text.split())


@pytest.mark.slow
def test_markup_and_control_characters_in_names_stay_text(make):
    text = printed(make(("[red]x[/red]\x1b[31m", "length")), 120)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [60, 80, 160])
def test_fifteen_lines_say_what_to_do(make, bare, width):
    names = (
        "hierarchical",
        "a-very-long-name-of-a-reward-model/Qwen2.5-1.5B-Instruct-lora",
        "pooled",
        "point",
        "length",
    )
    for diagnosis in (make(names), make(), make(("scores",), users=1, n=(1, 2, 4)), bare):
        lines = printed(diagnosis, width, verbose=False).splitlines()
        assert len(lines) <= 15
        assert max(map(len, lines)) <= width
        assert lines[-1].startswith("--verbose shows ")
    text = " ".join(printed(make(), width, verbose=False).split())
    assert "1. " in text
    assert "hierarchical" in text
    assert "None" not in text


def test_findings_stand_whole_and_a_long_first_one_keeps_cause_and_step():
    short, long = "It is so. Do this.", "Cause " + "and more " * 20 + "known. " + "Aside. " * 30 + "Then do that."
    assert _whole_findings([short, long, short], 60, 3) == [[f"1. {short}"]]
    (cut,) = _whole_findings([long], 60, 5)
    assert len(cut) <= 5
    assert cut[0].startswith("1. Cause")
    assert cut[-1].endswith("Then do that.")
    assert "Aside." in " ".join(cut)
    (endless,) = _whole_findings(["word " * 400], 60, 4)
    assert len(endless) == 4
    assert max(map(len, endless)) <= 60
    assert endless[-1].endswith("…")


@pytest.mark.slow
def test_counts_drop_what_does_not_fit(make):
    text = printed(make(folds=3), 40, verbose=False).splitlines()
    assert any(line.endswith("queries") and " users · " in line for line in text)
    assert not any("folds" in line for line in text)


def test_no_models(diagnosis):
    diagnosis["models"] = {}
    assert "holds no models" in printed(diagnosis, 80)


def test_what_is_no_diagnosis_is_refused():
    with pytest.raises(InputError):
        printed({}, 80)


def test_sparkline():
    assert sparkline((0.0, 0.5, 1.0, None), 0.0, 1.0) == "▁▅█·"
    assert sparkline((3.0, 3.0), 3.0, 3.0) == "▁▁"
