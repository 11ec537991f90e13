"""Whether other conversations help in a new one: python benchmarks/transfer.py [--encoder NAME] [--few 5 10 20].

Of each conversation in turn the priors of :mod:`transfer_priors` are learned from all others, and used in it. All
happens within the fit part of outer fold 0: three inner folds of each conversation (of Bowling Green one), the teachers
having their fit parts alone. ``--few K`` leaves votes on K texts drawn at random in the inner fit part, five times.

Models of the shared mean, all with a Gaussian process on embedding and style:

    own        variances by the conversation's own evidence, mean 0
    scales     variances of the other conversations, mean 0
    prior      their mean and its doubt as well
    style      the same of style alone; of the embedding only the variances
    by evidence   `style` where the conversation's labels are likelier under it than under `scales`, else `scales`
    no labels  the mean of `prior`, no label of the conversation seen
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import gammaln

from bestfor.data.candidates import Candidates
from bestfor.data.parts import CandidateParts
from bestfor.encoders import Encoder, load_encoder
from bestfor.files import write_json
from bestfor.rewards.features import STYLE
from bestfor.rewards.rows import canonical
from bestfor.rewards.style_prior import FORMAT, text_hash
from bestfor.rng import derive
from bestfor.threads import one_thread
from bestfor.types import FloatArray, IntArray
from people_suite import CASES, Suite, parts_of
from transfer_priors import (
    Conversation,
    Likelihood,
    Scale,
    SharedPrior,
    Tastes,
    conversation,
    features,
    fit_tastes,
    kernels,
    learn_shared,
    learn_shares,
    learn_tastes,
    likelihood,
    posterior,
    style_of,
)

NAMES = tuple(name for name in CASES if name != "headlines")
DRAWS = 5
SOURCE = (
    "Made from votes of eight Polis conversations. Data was gathered using the Polis software "
    "(compdemocracy.org/polis) "
    "and is sub-licensed under CC BY 4.0 with Attribution to The Computational Democracy Project."
)
SHARES = (0.0, 0.25, 0.5, 0.75)
FLAT = 1e-9


@dataclass(frozen=True)
class Judged:
    """Test rows of one inner fold.

    Attributes:
        text: shape (n,), their texts' codes in the conversation.
        user: shape (n,), their users' codes there, -1 for somebody without votes.
        query: shape (n,), their pools.
        utility: shape (n,).
        size: N.
    """

    text: IntArray
    user: IntArray
    query: IntArray
    utility: FloatArray
    size: int


@dataclass(frozen=True)
class Scores:
    """Posterior of the scores of a conversation's texts, and the log-evidence of its votes."""

    mean: FloatArray
    covariance: FloatArray
    evidence: float


def everything(suite: Suite, name: str) -> Candidates:
    """All ratings of a case as labelled candidates, each user's votes under one query."""
    ratings = suite.read(name)
    texts, text = np.unique(ratings.text, return_inverse=True)
    users, user = np.unique(ratings.user, return_inverse=True)
    names = tuple(ratings.users[code] for code in users.tolist())
    return Candidates(
        users=names,
        queries=names,
        inputs=("",) * len(names),
        texts=tuple(ratings.texts[code] for code in texts.tolist()),
        user=user,
        query=user,
        text=text,
        candidate=np.arange(len(user)),
        utility=np.asarray(ratings.rating, dtype=np.float64),
        logprob=np.full(len(user), np.nan),
    )


def judged(parts: CandidateParts, fit: Candidates, size: int) -> tuple[list[str], Judged]:
    """Texts behind those of the fit part, and the test rows in the codes of the conversation."""
    test = parts.test
    place = {text: code for code, text in enumerate(fit.texts)}
    further = [text for text in test.texts if text not in place]
    place |= {text: len(fit.texts) + at for at, text in enumerate(further)}
    who = {user: code for code, user in enumerate(fit.users)}
    text = np.array([place[text] for text in test.texts])[test.text]
    user = np.array([who.get(user, -1) for user in test.users])[test.user]
    return further, Judged(text, user, test.query, parts.test_utility, size)


def few_texts(fit: Candidates, count: int, draw: int) -> Candidates:
    """Keep the votes on some texts, drawn at random; 0 keeps all."""
    used = np.unique(fit.text)
    kept = derive(draw, "few texts").permutation(used)[:count] if count else used
    return canonical(fit.take(np.flatnonzero(np.isin(fit.text, kept))))


def shared_models(one: Conversation, prior: SharedPrior) -> dict[str, Scores]:
    """Scores of all texts by each model of the shared mean."""
    z = features(one, prior.scale)
    votes, kernel, joint = likelihood(one), kernels([z]), np.hstack(z)
    own, _ = learn_shares(kernel, votes, (2, 3, 4))
    common, rest = prior.variances[:2], np.array([0, 0, *prior.variances[2:]])
    both, embedding = rest + np.array([0, 0, *common, 0]), rest + np.array([0, 0, common[0], 0, 0])
    style = np.where(np.arange(joint.shape[1]) < z[0].shape[1], 0.0, joint)
    mean, doubt = prior.of(joint)
    style_mean, style_doubt = prior.of(style)
    nothing = np.zeros(len(mean))
    found = {
        "own": conditioned(votes, nothing, kernel.whole(own)),
        "scales": conditioned(votes, nothing, kernel.whole(both)),
        "prior": conditioned(votes, mean, kernel.whole(rest) + doubt),
        "style": conditioned(votes, style_mean, kernel.whole(embedding) + style_doubt),
    }
    better = found["style"].evidence > found["scales"].evidence
    found["by evidence"] = found["style" if better else "scales"]
    found["no labels"] = Scores(mean, kernel.whole(rest) + doubt, 0.0)
    return found


def conditioned(votes: Likelihood, mean: FloatArray, covariance: FloatArray) -> Scores:
    """Scores under a prior, given votes."""
    found = posterior(covariance, votes, mean)
    reach = covariance @ found.weight
    return Scores(mean + covariance @ found.pull, covariance - reach @ covariance, found.evidence)


def taste_models(one: Conversation, scores: Scores, z: FloatArray, covariance: FloatArray) -> dict[str, Tastes]:
    """Users' own part under an isotropic covariance, and under that mixture with the others' which is likeliest."""
    found = [fit_tastes(one, scores.mean, z, covariance, share) for share in SHARES]
    return {"isotropic": found[0], "others'": max(found, key=lambda tastes: tastes.evidence)}


def figures(one: Conversation, asked: Judged, scores: Scores, tastes: Tastes | None) -> list[float]:
    """Captured, rho, log density of a label, and rho of texts' mean votes."""
    mean, variance = scores.mean[asked.text], np.diag(scores.covariance)[asked.text]
    if tastes is None:
        variance = variance + one.noise * (1 + one.level)
    else:
        own, doubt = tastes.of(asked.text, asked.user)
        mean, variance = mean + own, variance + doubt + tastes.noise
    mean, variance = one.centre + one.unit * mean, one.unit**2 * variance
    density = -0.5 * np.mean(np.log(2 * np.pi * variance) + (asked.utility - mean) ** 2 / variance)
    texts, code = np.unique(asked.text, return_inverse=True)
    votes = np.bincount(code, asked.utility) / np.bincount(code)
    predicted = scores.mean[texts]
    by_text = float(np.corrcoef(votes, predicted)[0, 1]) if predicted.std() > FLAT else 0.0
    return [*captured(mean, asked), float(density), by_text]


def captured(mean: FloatArray, asked: Judged) -> tuple[float, float]:
    """Share of the headroom of exact Best-of-N over all pools, and the mean correlation within pools.

    Equal predictions count as 0.
    """
    gain = head = 0.0
    rhos = []
    order = np.argsort(asked.query, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(asked.query[order])) + 1):
        place, utility = np.arange(len(rows)), asked.utility[rows]
        if len(rows) < asked.size:
            continue
        top = np.maximum(place, asked.size - 1)
        logs = log_choose(top, asked.size - 1) - log_choose(len(rows), asked.size)
        chance = np.where(place >= asked.size - 1, np.exp(logs), 0.0)
        tied = mean[rows].std() <= FLAT
        gain += 0.0 if tied else float(chance @ utility[np.argsort(mean[rows], kind="stable")] - utility.mean())
        head += float(chance @ np.sort(utility) - utility.mean())
        if utility.std() > 0:
            rhos.append(0.0 if tied else float(np.corrcoef(utility, mean[rows])[0, 1]))
    return gain / head, float(np.mean(rhos))


def log_choose(n: IntArray | int, k: int) -> FloatArray:
    """Logarithm of a binomial coefficient."""
    return np.asarray(gammaln(np.add(n, 1.0)) - gammaln(k + 1.0) - gammaln(np.subtract(n, k) + 1.0))


def learn(
    suite: Suite, name: str, encoder: Encoder, teachers: dict[str, Conversation]
) -> tuple[SharedPrior, FloatArray]:
    """Priors for a conversation, from all others; kept once learned."""
    path = suite.out / "transfer" / suite.encoder.replace("/", "_") / f"without-{name}.npz"
    if path.is_file():
        kept = np.load(path)
        scale = Scale(float(kept["embedding"]), kept["style"])
        return SharedPrior(scale, kept["variances"], kept["mean"], kept["covariance"]), kept["tastes"]
    for other in NAMES:
        if other not in teachers:
            teachers[other] = conversation(everything(suite, other), [], encoder)
    others = {other: teachers[other] for other in NAMES if other != name}
    prior = learn_shared(others)
    tastes = learn_tastes(others, prior.scale, prior.variances + np.array([0, 0, *prior.variances[:2], 0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = {"embedding": prior.scale.embedding, "style": prior.scale.style}
    np.savez(path, variances=prior.variances, mean=prior.mean, covariance=prior.covariance, tastes=tastes, **scale)
    return prior, tastes


def make(suite: Suite, encoder: Encoder, path: Path) -> None:
    """Write the prior of style of all conversations, of their whole tables or, for inner folds, of their fit parts."""
    tables = {name: everything(suite, name) for name in NAMES}
    found = style_of({name: conversation(table, [], encoder) for name, table in tables.items()})
    taught: Any = found["conversations"]
    for one in taught:
        one["texts"] = sorted({text_hash(text) for text in tables[one["name"]].texts})
    head = {"format": FORMAT, "source": SOURCE, "made_by": "benchmarks/transfer.py --make", "columns": list(STYLE)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**head, **rounded(found)})


def rounded(value: object) -> Any:  # noqa: ANN401 - JSON of any shape
    """Round all numbers to six significant digits, arrays becoming lists."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, (list, np.ndarray)):
        return [rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, (float, np.floating)) else value


def cases(suite: Suite, names: Sequence[str], few: Sequence[int]) -> Iterator[tuple[str, int, int, int]]:
    """Conversation, inner fold, texts with votes (0 for all) and draw."""
    for name in names:
        folds = (0,) if name == "bowling-green" else (0, 1, 2)
        for fold in folds:
            for count in few:
                yield from ((name, fold, count, draw) for draw in range(DRAWS if count else 1))


def judge(
    suite: Suite,
    encoder: Encoder,
    parts: CandidateParts,
    case: tuple[str, int, int, int],
    priors: tuple[SharedPrior, FloatArray],
) -> dict[str, object]:
    """Fit and judge all models on one inner fold."""
    name, _, count, draw = case
    fit = few_texts(parts.fit, count, draw)
    further, asked = judged(parts, fit, CASES[name].size)
    one = conversation(fit, further, encoder)
    prior, covariance = priors
    found: dict[str, list[float]] = {}
    shared = shared_models(one, prior)
    for model, scores in shared.items():
        found[model] = figures(one, asked, scores, None)
    z = np.hstack(features(one, prior.scale))
    share: dict[str, float] = {}
    for model in ("scales", "style"):
        for kind, tastes in taste_models(one, shared[model], z, covariance).items():
            found[f"{model} + {kind}"] = figures(one, asked, shared[model], tastes)
            share[f"{model} + {kind}"] = tastes.share
    gain = shared["style"].evidence - shared["scales"].evidence
    return {
        "case": case,
        "figures": found,
        "share": share,
        "nats": gain,
        "nats_prior": shared["prior"].evidence - shared["scales"].evidence,
    }


def main() -> None:
    """Judge what is owed and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2")
    parser.add_argument("--few", nargs="*", type=int, default=[0, 5, 10, 20])
    parser.add_argument("--make", type=Path, help="write the prior of style of all conversations to this file")
    parser.add_argument("--fit-parts", action="store_true", help="with --make: of the fit parts of fold 0 alone")
    given = parser.parse_args()
    suite = Suite(given.data, given.out, given.encoder, inner=0)
    encoder = load_encoder(suite.encoder, cache=suite.out / "embeddings")
    if given.make:
        with one_thread():
            make(suite if given.fit_parts else replace(suite, inner=None), encoder, given.make)
        return
    path = suite.out / "transfer" / suite.encoder.replace("/", "_") / "judged.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    there = {tuple(json.loads(line)["case"]) for line in path.read_text().splitlines()} if path.is_file() else set()
    teachers: dict[str, Conversation] = {}
    with one_thread(), path.open("a", encoding="utf-8") as log:
        for name in given.names or NAMES:
            owed = [case for case in cases(suite, [name], given.few) if case not in there]
            if not owed:
                continue
            priors, parts = learn(suite, name, encoder, teachers), dict(parts_of(suite, name))
            for case in owed:
                if case[1] in parts:
                    log.write(json.dumps(judge(suite, encoder, parts[case[1]], case, priors)) + "\n")
                    log.flush()


if __name__ == "__main__":
    main()
