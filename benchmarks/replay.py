"""Real votes through a running gateway: python benchmarks/replay.py [--people 40] [--out FILE] [--picture FILE.svg].

A run is fitted on early people of a Polis conversation (their votes on two statements in three); the
gateway serves it as a process of its own. Then later people vote through `POST /v1/feedback`, one vote each in turn,
each in the order in which the statements came up; people of the run go on voting likewise (half of their votes were
held back). After 0, 1, 2, 4, 8, 16 and 32 votes each person's held-out statements, on which nobody here votes, are
ordered by `POST /v1/rerank`. Captured is what the best of N = 8 of them gains over a random one, as a share of what
their own votes would gain. In a second replay newcomers are asked by `POST /v1/ask`, which chooses the pair, and prefer
what they voted for. After 8 and 32 votes `bestfor refit` fits the model again, and the gateway takes it over.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

import bestfor as bf
from bestfor.data.sources.polis import load_polis
from bestfor.diagnostics import best_of_n
from bestfor.files import hash_text
from bestfor.rng import derive
from bestfor.serving.base import open_model
from bestfor.serving.journal import Journal
from bestfor.serving.refit_schedule import newest
from figures import table

DATA = Path("../shared/data/polis/american-assembly.bowling-green")
AFTER = (0, 1, 2, 4, 8, 16, 32)
REFITS = (8, 32)
N = 8
FITTED = 150
"""People whom the run is fitted on: the earliest with 40 votes or more."""
RUN = """
[data]
source = "table"
path = "{path}"
[split]
by = "text"
min_fit = 10
min_test = 4
[[reward]]
kind = "{kind}"
"""


@dataclass(frozen=True)
class Voter:
    """A person: votes to be given in turn, and held-out statements with their votes."""

    user: str
    votes: list[tuple[str, float]]
    texts: list[str]
    utility: np.ndarray


def voters(people: int) -> tuple[list[Voter], list[Voter], list[tuple[str, str, float]]]:
    """Choose newcomers and people of the run; and the rows that the run is fitted on."""
    votes_of = load_polis(DATA)
    order = {text: place for place, text in enumerate(votes_of.texts)}
    said: dict[str, list[tuple[str, float]]] = {}
    for user, text, value in zip(votes_of.user, votes_of.text, votes_of.rating.tolist(), strict=True):
        said.setdefault(votes_of.users[user], []).append((votes_of.texts[text], value))
    held = {text: int(hash_text(text)[:8], 16) % 3 == 0 for text in order}
    users = sorted(said, key=lambda user: (len(user), user))
    half = len(users) // 2
    early, late = [user for user in users[:half] if len(said[user]) >= 40][:FITTED], users[half:]
    fitted: list[tuple[str, str, float]] = []
    known, new = [], []
    for group, chosen in ((early, known), (late, new)):
        for user in group:
            votes = sorted(((t, v) for t, v in said[user] if not held[t]), key=lambda one: order[one[0]])
            tests = [(t, v) for t, v in said[user] if held[t]]
            mine = len(votes) if group is early and len(chosen) >= people else len(votes) // 2 if group is early else 0
            later = [one for one in votes[mine:] if one[1]]
            varied = len(tests) >= N and np.ptp([v for _, v in tests]) > 0
            if len(chosen) < people and len(later) >= max(AFTER) and varied:
                texts = [t for t, _ in tests]
                chosen.append(Voter(user, later, texts, np.array([v for _, v in tests])))
            elif group is early:
                mine = len(votes)
            fitted += [(user, t, v) for t, v in votes[:mine]]
    return new, known, fitted


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
        self.http = httpx2.Client(base_url=found[1], timeout=60.0, trust_env=False)

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


def gain(gateway: Gateway, one: Voter) -> tuple[float, float]:
    """Gain of the best of N by the gateway's order, and by the person's own votes, over a random statement."""
    found = gateway.post("/v1/rerank", {"query": "", "documents": one.texts, "user": one.user})
    reward = np.full(len(one.texts), -np.inf)
    for row in found["results"]:
        reward[row["index"]] = row["relevance_score"]
    size, n = np.array([len(one.texts)]), np.array([N])
    mine, best = (float(best_of_n(by[None], one.utility[None], size, n)[0, 0]) for by in (reward, one.utility))
    return mine - one.utility.mean(), best - one.utility.mean()


def vote(gateway: Gateway, one: Voter, step: int) -> None:
    """Give the next vote as a thumb."""
    text, value = one.votes[step]
    body = {"user": one.user, "text": text, "kind": "thumb", "value": value > 0, "key": f"{one.user}/{step}"}
    gateway.post("/v1/feedback", body)


def asked(gateway: Gateway, one: Voter, step: int, left: dict[str, list[tuple[str, float]]]) -> None:
    """Let the gateway choose which two of the next eight statements to show, and prefer by the votes."""
    pool = left.setdefault(one.user, list(one.votes))[:8]
    if len(pool) < 2:
        return
    pair = gateway.post("/v1/ask", {"user": one.user, "texts": [text for text, _ in pool]})["pair"]
    texts = [each["text"] for each in pair]
    left[one.user] = [each for each in left[one.user] if each[0] not in texts]
    value = dict(pool)
    if value[texts[0]] != value[texts[1]]:
        better, worse = sorted(texts, key=lambda text: -value[text])
        body = {"user": one.user, "kind": "preference", "value": better, "over": worse, "key": f"{one.user}/{step}"}
        gateway.post("/v1/feedback", body)


def replay(run: Path, groups: Mapping[str, Sequence[Voter]], *, by_asking: bool) -> dict[str, Any]:
    """Feed one journal from its beginning; gains of each group after each number of votes, before and after refits."""
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(run, Path(folder))
        left: dict[str, list[tuple[str, float]]] = {}
        found: dict[str, Any] = {name: {} for name in groups} | {"refits": {}}
        try:
            for step in range(max(AFTER) + 1):
                if step in AFTER:
                    for name, people in groups.items():
                        found[name][str(step)] = [gain(gateway, one) for one in people]
                if step in REFITS:
                    found["refits"][str(step)] = gateway.refit(run)
                    for name, people in groups.items():
                        found[name][f"{step} refitted"] = [gain(gateway, one) for one in people]
                if step == max(AFTER):
                    break
                for people in groups.values():
                    for one in people:
                        if by_asking:
                            asked(gateway, one, step, left)
                        else:
                            vote(gateway, one, step)
        finally:
            gateway.close()
        with Journal(Path(folder) / "feedback.db") as journal:
            taken = newest(journal, "", open_model(run))
        found["serves"] = None if taken is None else taken.name
    return found


def captured(gains: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Share of the gain of one's own votes, with a 95 % interval by bootstrap of people."""
    values = np.array(gains)
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
            report = done["report"]
            print(f"{way}, refit after {step}: {done['state']}, loss {report['loss_before']} -> {report['loss_after']}")


def draw(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
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
        axes.set_ylabel(f"captured at N = {N}, unseen statements")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.62))
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Replay, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--kind", default="tastes")
    parser.add_argument("--out", type=Path, help="JSON of all gains")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    new, known, fitted = voters(given.people)
    print(f"{len(new)} newcomers, {len(known)} people of the run, {len(fitted)} votes in the run, kind {given.kind}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        lines = [json.dumps({"user": user, "text": text, "rating": value}) for user, text, value in fitted]
        (path / "ratings.jsonl").write_text("\n".join(lines))
        (path / "run.toml").write_text(RUN.format(path=path / "ratings.jsonl", kind=given.kind))
        bf.run(bf.load_config(path / "run.toml"), path / "run")
        both = {"newcomers": new, "people of the run": known}
        results = {
            "in turn": replay(path / "run", both, by_asking=False),
            "asked": replay(path / "run", {"newcomers": new}, by_asking=True),
        }
    show(results)
    if given.out is not None:
        given.out.write_text(json.dumps(results))
    if given.picture is not None:
        draw(results, given.picture)


if __name__ == "__main__":
    main()
