"""The demo as a person runs it, small, and its page in a real browser."""

import json
import sys

import pytest

from bestfor.__main__ import main


@pytest.mark.slow
@pytest.mark.browser
def test_the_demo_samples_fits_and_leaves_a_page_that_opens(monkeypatch, capfd, tmp_path, chromium):
    from playwright.sync_api import sync_playwright

    out = tmp_path / "demo"
    monkeypatch.setattr(sys, "argv", ["bestfor", "demo", "--users", "16", "--n", "8", "--out", str(out), "--json"])
    assert main() == 0
    captured = capfd.readouterr()
    diagnosis = json.loads(captured.out)
    assert diagnosis["users"] == 16
    assert diagnosis["oracle"]["n"] == [1, 2, 4, 8]
    assert set(diagnosis["models"]) == {"length", "logprob", "pooled", "point", "gaussian", "hierarchical", "auto"}
    assert diagnosis["oracle"]["utility"][-1] > diagnosis["pool_mean"]
    assert str(out / "report.html") in captured.err.replace("\n", "")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        complaints = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((out / "report.html").as_uri())
        assert page.locator("h1").inner_text() == diagnosis["headline"].replace("`", "")
        browser.close()
    assert complaints == []


@pytest.mark.data
@pytest.mark.slow
def test_real_votes_from_the_example(monkeypatch, capfd, tmp_path, polis_dir):
    """The smallest real conversation through the example's models, as a person would run it."""
    from pathlib import Path

    example = Path(__file__).resolve().parents[2] / "examples" / "polis.toml"
    text = example.read_text(encoding="utf-8")
    text = text.replace("../shared/data/polis/american-assembly.bowling-green", str(polis_dir / "15-per-hour-seattle"))
    text = text.replace('fold = "all"', "fold = 0").replace("min_test = 16", "min_test = 8").replace("8, 16]", "8]")
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    words = ["bestfor", "run", str(tmp_path / "run.toml"), "--out", str(tmp_path / "out"), "--json"]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 0
    diagnosis = json.loads(capfd.readouterr().out)
    assert diagnosis["users"] == 30
    assert all(model["quantities"]["corrected"] is None for model in diagnosis["models"].values())
