"""Two gateways on one journal: one fits in a process of its own, both serve the result."""

import subprocess
import sys
import threading

import pytest

from bestfor.gateway.background_refits import BackgroundRefits
from bestfor.gateway.config import GatewayConfig, RefitTable
from bestfor.gateway.tenants import Services
from bestfor.serving.journal.refits import refits_of
from support.grown import noise_run, rate_lengths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return noise_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def config(folder, tmp_path):
    refit = RefitTable(least=100, every=1000.0, folder=str(tmp_path / "new"))
    return GatewayConfig(source=str(folder), journal=str(tmp_path / "feedback.db"), refit=refit)


@pytest.mark.slow
def test_one_fits_both_serve_it_and_a_third_begins_with_it(config):
    gateways = [Services(config), Services(config)]
    try:
        before = gateways[0].of("").person("stranger").score("prompt 1", ["park", "park " * 16]).mean
        rate_lengths(gateways[0].journal)
        looking = [BackgroundRefits(config, one) for one in gateways]
        for one in looking:
            one.look(config.refit)
        children = [one._child for one in looking]
        assert all(child.wait(120) == 0 for child in children if child is not None)
        (done,) = refits_of(gateways[1].journal)
        assert done.state == "swapped"
        for one in looking:
            one.look(config.refit)
            assert one._child is None
        folders = {str(one.of("").folder) for one in gateways}
        assert folders == {done.folder}
        after = [one.of("").person("stranger").score("prompt 1", ["park", "park " * 16]).mean for one in gateways]
        assert after[0].tolist() == after[1].tolist()
        assert before.tolist() != after[0].tolist()
    finally:
        for one in gateways:
            one.close()
    third = Services(config)
    assert str(third.of("").folder) == done.folder
    third.close()


def test_nothing_is_begun_without_a_reason_and_nothing_looked_at_unless_asked_for(config):
    services = Services(config)
    try:
        looking = BackgroundRefits(config, services)
        looking.look(config.refit)
        assert looking._child is None
        rate_lengths(services.journal)
        looking.look(config.refit.model_copy(update={"fits": False}))
        assert looking._child is None
        idle = BackgroundRefits(config.model_copy(update={"refit": None}), services)
        idle.start()
        assert not idle._thread.is_alive()
        idle.stop()
    finally:
        services.close()


def test_looking_ends_with_the_gateway(config):
    services = Services(config)
    looking = BackgroundRefits(config, services)
    looking.start()
    assert looking._thread.is_alive()
    looking.stop()
    assert not looking._thread.is_alive()
    services.close()


def test_a_refit_that_fails_is_not_begun_again_at_once(config, caplog):
    services = Services(config)
    try:
        rate_lengths(services.journal)
        looking = BackgroundRefits(config, services)
        looking._child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        looking._child.wait(30)
        with caplog.at_level("WARNING", "bestfor.gateway"):
            looking.look(config.refit)
        assert looking._child is None
        assert "ended with status 3" in caplog.text
        looking.look(config.refit)
        assert looking._child is None
    finally:
        services.close()


def test_nothing_that_fails_ends_the_looking(config, monkeypatch, caplog):
    services, seen = Services(config), threading.Event()
    looking = BackgroundRefits(config, services)

    def broken(refit):
        seen.set()
        raise OSError("a secret place")

    monkeypatch.setattr(looking, "look", broken)
    with caplog.at_level("WARNING", "bestfor.gateway"):
        looking.start()
        assert seen.wait(10)
        assert looking._thread.is_alive()
        looking.stop()
    assert "refit: OSError" in caplog.text
    assert "secret" not in caplog.text
    services.close()
