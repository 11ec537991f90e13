"""Whether other conversations help in a new one: python benchmarks/transfer.py [NAME ...] [--few 0 5 10 20].

Of each conversation in turn the priors of :mod:`transfer_priors` are learned from all others that share no text with
it, and used in it. All happens within the fit part of outer fold 0: three inner folds of each conversation (of Bowling
Green one), the teachers having their fit parts alone. ``--few K`` leaves votes on K texts drawn at random in the inner
fit part, so many times as ``--draws`` says; 0 leaves all.

Models of the shared mean, all with a Gaussian process on embedding and style:

    own        variances by the conversation's own evidence, mean 0
    scales     variances of the other conversations, mean 0
    prior      their mean and its doubt as well
    style      the same of style alone; of the embedding only the variances
    by evidence   `style` where the conversation's labels are likelier under it than under `scales`, else `scales`
    no labels  the mean of `prior`, no label of the conversation seen
    length     the longer text, no label seen either

``--tastes`` judges the covariance of users' own weights instead, and ``--pooled FILE`` the kind ``pooled`` with and
without the prior that ``--make FILE --fit-parts`` wrote. ``--make FILE`` writes the prior that is shipped, of whole
tables. ``--shares`` prints how much of the weights is common to conversations, by the evidence of all fit parts.
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
from bestfor.rewards.linear.pooled import Pooled
from bestfor.rewards.rows import canonical
from bestfor.rewards.style_prior import FORMAT, text_hash
from bestfor.rng import derive
from bestfor.threads import one_thread
from bestfor.types import FloatArray, IntArray
from figures import number, table
from people_suite import CASES, Suite, parts_of, spread
from transfer_priors import NAMES as NAMES_OF
from transfer_priors import (
    Conversation,
    Likelihood,
    SharedPrior,
    Tastes,
    common_scale,
    conversation,
    features,
    fit_tastes,
    joined,
    kernels,
    learn_shared,
    learn_shares,
    learn_tastes,
    likelihood,
    posterior,
    style_of,
    whole_features,
)

NAMES = tuple(name for name in CASES if name != "headlines")
DRAWS = 5
SOURCE = (
    "Made from votes of eight Polis conversations. Data was gathered using the Polis software "
    "(compdemocracy.org/polis) "
    "and is sub-licensed under CC BY 4.0 with Attribution to The Computational Democracy Project."
)
SHARES = (0.0, 0.25, 0.5, 0.75)
PROFILE = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
FLAT = 1e-9
Taught = tuple[frozenset[str], Conversation]
"""All texts of a conversation, and its votes."""


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


def judged_figures(one: Conversation, asked: Judged, scores: Scores, tastes: Tastes | None) -> list[float]:
    """Captured, rho, log density of a label, and rho of texts' mean votes."""
    mean, variance = scores.mean[asked.text], np.diag(scores.covariance)[asked.text]
    if tastes is None:
        variance = variance + one.noise * (1 + one.level)
    else:
        own, doubt = tastes.of(asked.text, asked.user)
        mean, variance = mean + own, variance + doubt + tastes.noise
    mean, variance = one.centre + one.unit * mean, one.unit**2 * variance
    density = -0.5 * np.mean(np.log(2 * np.pi * variance) + (asked.utility - mean) ** 2 / variance)
    return [*captured(mean, asked), float(density), by_text(scores.mean[asked.text], asked)]


def by_text(mean: FloatArray, asked: Judged) -> float:
    """Correlation of texts' mean votes with their mean predictions; 0 where these are equal."""
    _, code = np.unique(asked.text, return_inverse=True)
    votes, predicted = (np.bincount(code, values) / np.bincount(code) for values in (asked.utility, mean))
    return float(np.corrcoef(votes, predicted)[0, 1]) if predicted.std() > FLAT else 0.0


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
    suite: Suite, name: str, encoder: Encoder, teachers: dict[str, Taught], *, tastes: bool
) -> tuple[SharedPrior, FloatArray]:
    """Priors for a conversation; that of tastes, which costs minutes, where it is asked for, and kept."""
    for other in NAMES:
        if other not in teachers:
            table = everything(suite, other)
            teachers[other] = frozenset(suite_texts(suite, other)), conversation(table, [], encoder)
    mine = teachers[name][0]
    others = {other: one for other, (texts, one) in teachers.items() if not (texts & mine)}
    prior = learn_shared(others)
    if not tastes:
        return prior, np.zeros((0, 0))
    path = suite.out / "transfer" / suite.encoder.replace("/", "_") / f"without-{name}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        both = prior.variances + np.array([0, 0, *prior.variances[:2], 0])
        np.savez(path, tastes=learn_tastes(others, prior.scale, both))
    return prior, np.load(path)["tastes"]


def suite_texts(suite: Suite, name: str) -> tuple[str, ...]:
    """All texts of a case, test texts too."""
    return everything(replace(suite, inner=None), name).texts


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


Case = tuple[str, int, int, int]
"""Conversation, inner fold, texts with votes (0 for all) and draw."""


def cases(names: Sequence[str], few: Sequence[int], draws: int) -> Iterator[Case]:
    """What is to be judged."""
    for name in names:
        for fold in (0,) if name == "bowling-green" else (0, 1, 2):
            for count in few:
                yield from ((name, fold, count, draw) for draw in range(draws if count else 1))


def judge_shared(one: Conversation, asked: Judged, length: FloatArray, prior: SharedPrior) -> dict[str, object]:
    """Judge all models of the shared mean on one inner fold."""
    shared = shared_models(one, prior)
    found = {model: judged_figures(one, asked, scores, None) for model, scores in shared.items()}
    found["length"] = judged_figures(one, asked, replace(shared["scales"], mean=length), None)
    for model in ("no labels", "length"):
        found[model][2] = float("nan")
    gains = {model: shared[model].evidence - shared["scales"].evidence for model in ("style", "prior")}
    return {"figures": found, "nats": gains}


def judge_tastes(one: Conversation, asked: Judged, prior: SharedPrior, covariance: FloatArray) -> dict[str, object]:
    """Judge users' own part under both covariances, the shared mean being that of `scales`."""
    scores, z = shared_models(one, prior)["scales"], whole_features(one, prior.scale)
    models = taste_models(one, scores, z, covariance)
    found = {"no tastes": judged_figures(one, asked, scores, None)}
    found |= {model: judged_figures(one, asked, scores, tastes) for model, tastes in models.items()}
    gain = models["others'"].evidence - models["isotropic"].evidence
    return {"figures": found, "share": models["others'"].share, "nats": gain}


def judge_pooled(
    fit: Candidates, parts: CandidateParts, asked: Judged, encoder: Encoder, path: Path
) -> dict[str, object]:
    """Judge the kind `pooled` with a prior and without, and both beside `length`, standardised."""
    found, means, notes = {}, {}, []
    for model, options in (("pooled", {}), ("pooled, prior", {"prior": str(path)})):
        fitted = Pooled(None, encoder=encoder, **options).fit(fit, rng=0)
        estimate = fitted.predict(parts.test)
        assert estimate.std is not None
        means[model], variance = estimate.mean, estimate.std**2
        density = -0.5 * np.mean(np.log(2 * np.pi * variance) + (asked.utility - estimate.mean) ** 2 / variance)
        found[model] = [*captured(estimate.mean, asked), float(density), by_text(estimate.mean, asked)]
        notes += [note for note in fitted.notes if note.startswith("prior")]
    length = np.array([len(text) for text in parts.test.texts], dtype=np.float64)[parts.test.text]
    nothing = np.zeros(len(length))
    for model in ("length", "length and pooled", "length and pooled, prior"):
        parts_of_it = (length, means.get(model.removeprefix("length and "), nothing))
        mean = np.sum([(one - one.mean()) / (float(one.std()) or 1.0) for one in parts_of_it], axis=0)
        found[model] = [*captured(mean, asked), float("nan"), by_text(mean, asked)]
    return {"figures": found, "notes": notes}


def print_shares(suite: Suite, encoder: Encoder) -> None:
    """Print log-evidence of what is common, and of shares between none and all, the other variances as they are."""
    every = [conversation(everything(suite, name), [], encoder) for name in NAMES]
    scale = common_scale(every)
    kernel, votes = kernels([features(one, scale) for one in every]), joined([likelihood(one) for one in every])
    none = learn_shares(kernel, votes, (2, 3, 4))[1]
    sorts = {"both": (0, 1, 2, 3, 4), "style": (1, 2, 3, 4), "embedding": (0, 2, 3, 4), "nothing": (2, 3, 4)}
    sorts |= {"all of both": (0, 1, 4), "all of style": (1, 2, 4), "no style at all": (2, 4)}
    lines = []
    for what, free in sorts.items():
        variances, evidence = learn_shares(kernel, votes, free)
        lines.append([what, *(number(float(one)) for one in variances), number(evidence - none, 1)])
    table(["common", *NAMES_OF, "nats"], lines)
    variances, _ = learn_shares(kernel, votes)
    lines = []
    for what, common, own in (("embedding", 0, 2), ("style", 1, 3)):
        nats = []
        for share in PROFILE:
            tried, total = variances.copy(), variances[common] + variances[own]
            tried[common], tried[own] = share * total, (1 - share) * total
            nats.append(posterior(kernel.whole(tried), votes).evidence)
        lines.append([what, *(number(one - nats[0], 1) for one in nats)])
    table(["share of what is common", *(number(share, 2) for share in PROFILE)], lines)


def print_tables(rows: Sequence[dict[str, Any]], base: str) -> None:
    """Means over conversations, and paired differences to one model with Student's interval over conversations."""
    for count in sorted({row["case"][2] for row in rows}):
        here = [row for row in rows if row["case"][2] == count]
        models, names = list(here[0]["figures"]), list(dict.fromkeys(row["case"][0] for row in here))
        by_name = [[row for row in here if row["case"][0] == name] for name in names]
        values = np.array(
            [np.mean([[row["figures"][model] for model in models] for row in some], axis=0) for some in by_name]
        )
        print(f"\n{count or 'all'} texts with votes; {', '.join(names)}\n")
        lines = []
        for place, model in enumerate(models):
            away = values[:, place] - values[:, models.index(base)]
            cells = [number(float(values[:, place, figure].mean())) for figure in range(4)]
            cells += ["" if model == base else f"{number(float(x.mean()))} ({spread(x)})" for x in away.T]
            lines.append([model, *cells])
        what = ("captured", "rho", "log density", "texts' rho")
        table(["model", *what, *(f"{one}, minus {base}" for one in what)], lines)


def main() -> None:
    """Judge what is owed and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2")
    parser.add_argument("--few", nargs="*", type=int, default=[0, 5, 10, 20])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--shares", action="store_true", help="print how much of the weights is common")
    parser.add_argument("--tastes", action="store_true", help="judge the covariance of users' own weights")
    parser.add_argument("--pooled", type=Path, help="judge `pooled` with this prior and without")
    parser.add_argument("--make", type=Path, help="write the prior of style of all conversations to this file")
    parser.add_argument("--fit-parts", action="store_true", help="with --make: of the fit parts of fold 0 alone")
    given = parser.parse_args()
    suite = Suite(given.data, given.out, given.encoder, inner=0)
    encoder = load_encoder(suite.encoder, cache=suite.out / "embeddings")
    with one_thread():
        if given.shares:
            print_shares(suite, encoder)
            return
        if given.make:
            make(suite if given.fit_parts else replace(suite, inner=None), encoder, given.make)
            return
        what = "pooled" if given.pooled else "tastes" if given.tastes else "shared"
        path = suite.out / "transfer" / suite.encoder.replace("/", "_") / f"{what}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        asked = list(cases(given.names or NAMES, given.few, given.draws))
        judge(suite, encoder, asked, path, given)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [row for row in rows if tuple(row["case"]) in set(asked)]
    print_tables(kept, {"pooled": "pooled", "tastes": "isotropic", "shared": "scales"}[what])


def judge(suite: Suite, encoder: Encoder, asked: Sequence[Case], path: Path, given: argparse.Namespace) -> None:
    """Judge what is not in the file yet."""
    there = {tuple(json.loads(line)["case"]) for line in path.read_text().splitlines()} if path.is_file() else set()
    teachers: dict[str, Taught] = {}
    for name in dict.fromkeys(case[0] for case in asked if case not in there):
        parts = dict(parts_of(suite, name))
        priors = None if given.pooled else learn(suite, name, encoder, teachers, tastes=given.tastes)
        for case in asked:
            if case[0] != name or case in there or case[1] not in parts:
                continue
            fit = few_texts(parts[case[1]].fit, case[2], case[3])
            further, test = judged(parts[case[1]], fit, CASES[name].size)
            if priors is None:
                found = judge_pooled(fit, parts[case[1]], test, encoder, given.pooled)
            elif given.tastes:
                found = judge_tastes(conversation(fit, further, encoder), test, *priors)
            else:
                length = np.array([len(text) for text in [*fit.texts, *further]], dtype=np.float64)
                found = judge_shared(conversation(fit, further, encoder), test, length, priors[0])
            with path.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"case": case, **found}) + "\n")


if __name__ == "__main__":
    main()
