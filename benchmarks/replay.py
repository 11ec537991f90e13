"""Real votes through a running gateway: python benchmarks/replay.py [polis headlines] [--out FILE] [--pictures FOLDER].

A run is fitted on some people; the gateway serves it as a process of its own. Then newcomers vote through
`POST /v1/feedback`, one vote each in turn, each in the order in which they voted; people of the run go on voting
likewise (half of their votes were held back). After 0, 1, 2, 4, 8, 16 and 32 votes each person's held-out texts, on
which nobody here votes, are ordered by `POST /v1/rerank`. Captured is what the best of N of them gains over a random
one, as a share of what their own votes would gain. In a second replay newcomers are asked by `POST /v1/ask`, which
chooses the pair, and prefer what they voted for. After 8 and 32 votes `bestfor refit` fits the model again, and the
gateway takes it over. Who votes on what: replay_people.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

import bestfor as bf
from bestfor.diagnostics import best_of_n
from bestfor.rng import derive
from figures import table
from replay_people import SOURCES, Fold, Source, Vote, Voter

AFTER = (0, 1, 2, 4, 8, 16, 32)
REFITS = (8, 32)
WINDOW = 8
"""Texts of which a question may choose two."""
RUN = """
[data]
source = "table"
path = "{path}"
[split]
by = "{by}"
min_fit = 10
min_test = 4
[[reward]]
kind = "{kind}"
encoder = "{encoder}"
"""
Gains = dict[str, tuple[float, float]]
"""Gain of the gateway's order and of a person's own votes, by person."""


class Gateway:
    """``bestfor serve`` as a process of its own."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.journal = folder / "feedback.db"
        config = folder / "gateway.toml"
        config.write_text(
            f'source = "{run}"\njournal = "{self.journal}"\nport = 0\n[refit]\nevery = 0.5\nfits = false\n'
        )
        words = [sys.executable, "-m", "bestfor", "serve", "--config", str(config)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        said = ""
        while (found := re.search(r"(http://127\.0\.0\.1:\d+)/v1 \(stop", said)) is None:
            line = self.process.stderr.readline() if self.process.stderr else ""
            if not line:
                raise SystemExit(f"the gateway did not start: {said}")
            said += line
        threading.Thread(target=lambda: list(self.process.stderr or ()), daemon=True).start()
        self.http = httpx2.Client(base_url=found[1], timeout=600.0, trust_env=False)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request that has to succeed."""
        answer = self.http.post(path, json=body)
        if answer.status_code >= 300:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()

    def refit(self, run: Path) -> dict[str, Any]:
        """Fit again, and wait until the gateway serves the result."""
        words = [sys.executable, "-m", "bestfor", "refit", str(run), "--journal", str(self.journal), "--now", "--json"]
        done = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        time.sleep(3.0)  # the gateway looks twice a second
        return done

    def close(self) -> None:
        """End the process."""
        self.http.close()
        self.process.terminate()
        self.process.wait()


def gain(gateway: Gateway, one: Voter, n: int) -> tuple[float, float]:
    """Gain of the best of N by the gateway's order, and by the person's own votes, over a random text: pools' means."""
    gains = []
    for pool in one.pools:
        found = gateway.post("/v1/rerank", {"query": pool.prompt, "documents": pool.texts, "user": one.user})
        reward = np.full(len(pool.texts), -np.inf)
        for row in found["results"]:
            reward[row["index"]] = row["relevance_score"]
        size, most = np.array([len(pool.texts)]), np.array([n])
        picks = (best_of_n(by[None], pool.utility[None], size, most)[0, 0] for by in (reward, pool.utility))
        gains.append([float(pick) - pool.utility.mean() for pick in picks])
    mine, best = np.mean(gains, axis=0)
    return float(mine), float(best)


def vote(gateway: Gateway, one: Voter, step: int) -> None:
    """Give the next vote as a thumb."""
    said = one.votes[step]
    body = {"user": one.user, "text": said.text, "kind": "thumb", "value": said.value > 0, "prompt": said.prompt}
    gateway.post("/v1/feedback", {**body, "key": f"{one.user}/{step}"})


def asked(gateway: Gateway, one: Voter, step: int, left: dict[str, list[list[Vote]]]) -> None:
    """Let the gateway choose which two of the next texts to show, and prefer by the votes; each text is shown once."""
    sets = left.setdefault(one.user, [list(votes) for votes in one.sets])
    mine = sets[step % len(sets)]
    pool = {vote.text: vote for vote in mine[:WINDOW]}
    if len(pool) < 2:
        return
    prompt = mine[0].prompt
    pair = gateway.post("/v1/ask", {"user": one.user, "prompt": prompt, "texts": list(pool)})["pair"]
    texts = [each["text"] for each in pair]
    mine[:] = [each for each in mine if each.text not in texts]
    if pool[texts[0]].value != pool[texts[1]].value:
        better, worse = sorted(texts, key=lambda text: -pool[text].value)
        body = {"user": one.user, "kind": "preference", "value": better, "over": worse, "prompt": prompt}
        gateway.post("/v1/feedback", {**body, "key": f"{one.user}/{step}"})


def replay(run: Path, groups: Mapping[str, Sequence[Voter]], n: int, *, by_asking: bool) -> dict[str, Any]:
    """Feed one journal from its beginning; gains of each group after each number of votes, before and after refits."""
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(run, Path(folder))
        left: dict[str, list[list[Vote]]] = {}
        found: dict[str, Any] = {name: {} for name in groups} | {"refits": {}}
        try:
            for step in range(max(AFTER) + 1):
                if step in AFTER:
                    measure(gateway, groups, n, step, found)
                if step in REFITS:
                    found["refits"][str(step)] = [gateway.refit(run)]
                    measure(gateway, groups, n, step, found, " refitted")
                for one in (one for people in groups.values() for one in people if step < max(AFTER)):
                    if by_asking:
                        asked(gateway, one, step, left)
                    else:
                        vote(gateway, one, step)
        finally:
            gateway.close()
    return found


def measure(
    gateway: Gateway, groups: Mapping[str, Sequence[Voter]], n: int, step: int, found: dict[str, Any], after: str = ""
) -> None:
    """Note everybody's gains after some votes."""
    for name, people in groups.items():
        found[name][f"{step}{after}"] = {one.user: gain(gateway, one, n) for one in people}


def replay_fold(fold: Fold, source: Source, kind: str) -> dict[str, Any]:
    """Fit a run on the people of a fold, and replay the others' votes: as they came, and as they are asked."""
    print(f"{len(fold.new)} newcomers, {len(fold.known)} people of the run, {len(fold.rows)} votes in the run, {kind}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "ratings.jsonl").write_text("\n".join(map(json.dumps, fold.rows)))
        by = "query" if "query" in fold.rows[0] else "text"
        (path / "run.toml").write_text(
            RUN.format(path=path / "ratings.jsonl", kind=kind, by=by, encoder=source.encoder)
        )
        bf.run(bf.load_config(path / "run.toml"), path / "run")
        both = {"newcomers": fold.new, "people of the run": fold.known}
        return {
            "in turn": replay(path / "run", both, source.n, by_asking=False),
            "asked": replay(path / "run", {"newcomers": fold.new}, source.n, by_asking=True),
        }


def replay_folds(name: str, kind: str | None, people: int, out: Path | None) -> list[dict[str, Any]]:
    """Replay every fold of a source, or read those that a folder holds already."""
    source, found = SOURCES[name], []
    for number, fold in enumerate(source.folds(people)):
        path = None if out is None else out / f"{name}-{number}.json"
        if path is not None and path.is_file():
            found.append(json.loads(path.read_text()))
            continue
        found.append(replay_fold(fold, source, kind or source.kind))
        if path is not None:
            path.write_text(json.dumps(found[-1]))
    return found


def joined(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join folds: a person of several has the mean of their gains."""
    found: dict[str, Any] = {way: {name: {} for name in folds[0][way]} for way in folds[0]}
    for way, groups in found.items():
        groups["refits"] = {
            step: [done for fold in folds for done in fold[way]["refits"][step]] for step in folds[0][way]["refits"]
        }
        for name in set(groups) - {"refits"}:
            for step in folds[0][way][name]:
                mine: dict[str, list[tuple[float, float]]] = {}
                for fold in folds:
                    for user, pair in fold[way][name][step].items():
                        mine.setdefault(user, []).append(pair)
                groups[name][step] = {user: tuple(np.mean(pairs, axis=0).tolist()) for user, pairs in mine.items()}
    return found


def captured(gains: Gains) -> tuple[float, float, float]:
    """Share of the gain of one's own votes, with a 95 % interval by bootstrap of people."""
    values = np.array(list(gains.values()))
    draw = derive(0, "replay").integers(len(values), size=(2000, len(values)))
    shares = values[draw][:, :, 0].sum(axis=1) / values[draw][:, :, 1].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(values[:, 0].sum() / values[:, 1].sum()), float(low), float(high)


def show(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table."""
    columns = [
        (way, name) for way, found in results.items() for name in ("newcomers", "people of the run") if name in found
    ]
    rows = []
    for step in next(iter(results.values()))["newcomers"]:
        cells = [captured(results[way][name][step]) for way, name in columns]
        rows.append([step, *(f"{value:.2f} ({low:.2f} to {high:.2f})" for value, low, high in cells)])
    table(["after", *(f"{name}, {way}" for way, name in columns)], rows)
    for way, found in results.items():
        for step, done in found["refits"].items():
            said = [
                f"{one['state']} (loss {one['report']['loss_before']} -> {one['report']['loss_after']})" for one in done
            ]
            print(f"{way}, refit after {step}: {', '.join(said)}")


def draw(results: Mapping[str, Mapping[str, Any]], n: int, path: Path) -> None:
    """Draw captured against the number of votes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from bestfor.report.charts.plots import COLORS, INK

    with rc_context({"svg.hashsalt": "bestfor", "svg.fonttype": "path"}):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        lines = [("in turn", "newcomers"), ("in turn", "people of the run"), ("asked", "newcomers")]
        at = {step: place for place, step in enumerate(AFTER)}
        for color, (way, name) in zip(COLORS, lines, strict=False):
            values = np.array([captured(results[way][name][str(step)]) for step in AFTER])
            label = {"in turn": f"{name}, votes as they came", "asked": f"{name}, asked which of two"}[way]
            axes.plot(list(at.values()), values[:, 0], color=color, marker="o", label=label)
            axes.fill_between(list(at.values()), values[:, 1], values[:, 2], color=color, alpha=0.12, linewidth=0)
            for step in REFITS:
                after = captured(results[way][name][f"{step} refitted"])[0]
                axes.plot([at[step]], [after], color=color, marker="D", markersize=8, fillstyle="none", linestyle="")
        for step in REFITS:
            axes.axvline(at[step], color=INK, linewidth=0.8, linestyle=":")
            axes.annotate(
                "refit", (at[step], axes.get_ylim()[0]), xytext=(3, 3), textcoords="offset points", fontsize=9
            )
        axes.set_xticks(list(at.values()), [str(step) for step in AFTER])
        axes.set_xlabel("votes, or questions, of a person")
        axes.set_ylabel(f"captured at N = {n}, texts nobody voted on")
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.margins(x=0.08)
        figure.legend(frameon=False, loc="outside upper left", ncols=2, fontsize=9)
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Replay, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="polis, headlines; both without")
    parser.add_argument("--people", type=int, default=40, help="of each group, of Polis")
    parser.add_argument("--kind", help="of the reward model; else the one that learns best there")
    parser.add_argument(
        "--out", type=Path, help="folder for the gains of all people by fold; those there are not replayed again"
    )
    parser.add_argument("--pictures", type=Path, help="folder")
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in given.data or ["polis", "headlines"]:
        folds = replay_folds(name, given.kind, given.people, given.out)
        results = joined(folds)
        show(results)
        if given.pictures is not None:
            suffix = "" if name == "polis" else f"-{name}"
            draw(results, SOURCES[name].n, given.pictures / f"replay{suffix}.svg")


if __name__ == "__main__":
    main()
