"""The tables of docs/results/suite.md, printed as Markdown from the figures of the cells."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bestfor.diagnostics import Panel
from bestfor.diagnostics.intervals.influence import user_influences
from suite_figures import WORD, ends

Cells = Mapping[str, Mapping[str, Any]]
"""Cells' figures by name."""

CHOICES = ("pooled", "hierarchical", "auto", "gaussian", "feedback", "oracle")
"""Ways to choose that the table of policies shows."""
SHOWN = (1, 2, 4, 8, 16, 20, 30)
ABLATION = {
    "point": "no variance",
    "gaussian": "variance, beta-NLL .5, warm-up, both levels",
    "gaussian-nll": "plain likelihood",
    "gaussian-cold": "no warm-up",
    "gaussian-global": "global level alone",
    "gaussian-personal": "personal level alone",
    "ensemble": "several point models",
}
"""Variants of the probabilistic model, with what differs."""
SPENT = (
    *("logprob", "self-consistency", "mbr, ROUGE-L", "mbr, cosine", "feedback", "pooled", "hierarchical"),
    *("lora", "lora-point", "lora-gaussian", "lora-pairs", "lora-members", "lora-wary", "auto", "oracle"),
)
"""Rows of the comparison at equal tokens."""
NOTES = {
    "Sizes": "Labels are those of the authors' earlier papers; *distinct* is the share of different texts within "
    "questions. 74 % of plain titles and 64 % of those with retrieval were cut at 28 tokens.",
    "Personal policy, personal choice, both, at equal tokens": "Gains over one plain sample of the same authors: "
    "*policy* is one sample of the cell's policy, *choice* Best-of-N of plain samples, *both* Best-of-N of the cell's "
    "policy, at the same N. For textual feedback *policy* is the mean of all that it wrote.",
    "What of the policy is personal": "Gains are over one plain sample of the same authors; in the last column over a "
    "sample behind two papers of another author (own adapters: with another author's; on top of one for all or for a "
    "group: with that for all alone), of the authors that both cells have.",
    "Reward models over all policies": "At the largest N of each cell with all of these; *regret* is what a kind "
    "captures less than the best of these kinds in that cell.",
    "Reward models": "The last column but the other metrics: ROUGE-L less that of `hierarchical`, paired by author. "
    "Models learned ROUGE-L; the other metrics are of the same picks (*embedding*: cosine by all-MiniLM-L6-v2). Cells "
    "of 6 authors and more.",
    "Equal tokens": "Budgets are those of N candidates. *feedback* counts critiques and advice as long as they may be; "
    "*single sample* of that cell is the mean of all that it wrote.",
    "Four quantities": "Corrected values need pools of 20 candidates and 20 such questions. *beta_05* is the share "
    "of questions whose true correlation is below -.05: the one corrected value that has an interval.",
    "Law against curve": "Gains over a random candidate, and the ledger from the normal law to the exact gain.",
    "Three random subsets, as in the paper, beside the exact curve": "Three random subsets / exact.",
}
"""What stands before the tables."""
ENOUGH = 6
"""Authors that a cell needs for the detailed tables."""
PLAIN, STRANGERS = "title-plain", "title-strangers"
IN_PROMPT = {
    PLAIN: "nothing",
    STRANGERS: "two papers of another author, BM25",
    "title-others": "two papers of others, BM25 among all of them",
    "title-others-random": "two papers of others, at random",
    "title-bm25": "two of the author's own, BM25",
    "title-dense": "two of the author's own, nearest in meaning",
    "title-recency": "the author's two latest",
    "title-profile": "a summary of the author's titles",
    "title-lora-strangers": "nothing; an adapter of another author's",
    "title-lora": "nothing; the author's own adapter",
    "title-shared-lora": "nothing; one adapter for all",
    "title-fdlora": "nothing; one adapter for all and the author's own",
    "title-groups": "nothing; a group's adapter and the author's own",
}
"""Cells of titles by what is in the prompt."""
CONTROLS = {
    **dict.fromkeys((PLAIN, STRANGERS, "title-lora-strangers", "title-shared-lora"), ""),
    "title-lora": "title-lora-strangers",
    "title-fdlora": "title-shared-lora",
    "title-groups": "title-shared-lora",
}
"""What cells are compared with, where it is not two papers of another author."""
OVERALL = ("pooled", "gaussian", "hierarchical", "auto", "mbr, cosine", "logprob", "length")
"""Rewards of the table over all cells."""
SAMPLED_MORE = ("title-plain", "title-bm25")
"""Cells of 16 candidates whose cells of 30 begin with the same."""
PLAIN_POLICY = ("title-judge", "title-reward-lora", "title-reward-lora-members", "title-tuner", "title-tuned")
"""Cells of reward models alone."""
WORTH = ("pooled", "hierarchical")
"""Rules by which the table of what pays chooses."""
BEST = "hierarchical"
"""What others are compared with."""


def print_tables(cells: Cells, others: Mapping[str, Cells]) -> None:
    """Print all tables for which there are figures; the detailed ones of cells with enough authors to tell anything.

    Args:
        cells: figures by cell.
        others: by metric, figures of cells by that metric.
    """
    taught = {name: one for name, one in cells.items() if BEST in one["users"]}
    large = {name: one for name, one in taught.items() if one["sizes"]["authors"] >= ENOUGH}
    for title, told, shown in (
        ("Sizes", table_sizes, cells),
        ("Best of N by policy and task", table_policies, cells),
        ("Personal policy, personal choice, both, at equal tokens", table_worth, taught),
        *([("What of the policy is personal", table_personal, cells)] if STRANGERS in cells else []),
        ("Reward models over all policies", table_overall, {k: v for k, v in large.items() if k not in PLAIN_POLICY}),
        ("Reward models", table_rewards, large),
        ("Ablation of the probabilistic model", table_ablation, large),
        ("Equal tokens", table_tokens, taught),
        ("Four quantities", table_quantities, large),
        ("Law against curve", table_laws, large),
        ("Three random subsets, as in the paper, beside the exact curve", table_protocol, large),
        ("Time that scoring takes", table_scoring, large),
    ):
        print(f"## {title}\n")
        if title in NOTES:
            print(textwrap.fill(NOTES[title], 140, break_long_words=False, break_on_hyphens=False) + "\n")
        told(shown)
    for metric, found in others.items():
        print(f"## {metric.upper()}\n")
        table_metric(found)


def table_sizes(cells: Cells) -> None:
    """What was sampled in each cell."""
    keys = ("authors", "questions", "candidates", "labelled_queries", "labelled", "distinct", "words")
    rows = [[name, *(str(one["sizes"][key]) for key in keys)] for name, one in cells.items()]
    table(
        ["cell", "authors", "questions", "candidates", "labelled papers", "labels", "distinct", "words a candidate"],
        rows,
    )


def table_policies(cells: Cells) -> None:
    """Mean utility of every choice at every N."""
    rows = []
    for name, one in cells.items():
        rows.append([name, "single sample", *at(one, "oracle", lambda one, k: one["utility"][0] if k == 0 else None)])
        for choice in CHOICES:
            if choice in one["curves"]:
                rows.append([name, choice, *at(one, choice, lambda one, k: None if k == 0 else one["utility"][k])])
    table(["cell", "choice", *(f"N = {n}" for n in SHOWN)], rows)


def at(one: Mapping[str, Any], name: str, told: Callable[[Mapping[str, Any], int], Sequence[Any] | None]) -> list[str]:
    """A row of a curve at the N that are shown."""
    place = {n: k for k, n in enumerate(one["n"])}
    cells = [told(one["curves"][name], place[n]) if n in place else None for n in SHOWN]
    return [spanned(cell) if cell else "" for cell in cells]


def table_rewards(cells: Cells) -> None:
    """Every reward model at the largest N: primary metric, share of the headroom, other metrics."""
    for name, one in cells.items():
        others = sorted(one["other"])
        print(f"**{name}**, N = {one['n'][-1]}\n")
        rows = [
            [
                label,
                spanned(curve["utility"][-1]),
                spanned(curve["captured"][-1]),
                less(one, label),
                *(spanned(one["other"][metric].get(label, [[]])[-1]) for metric in others),
            ]
            for label, curve in one["curves"].items()
        ]
        table(["reward", one["primary"], "captured", f"less {BEST}", *others], rows)


def table_overall(cells: Cells) -> None:
    """Mean of captured over the policies, and how far each kind is from the best of these in each cell."""
    shown = [one for name, one in cells.items() if name not in SAMPLED_MORE and set(OVERALL) <= set(one["curves"])]
    captured = np.array([[one["curves"][kind]["captured"][-1][0] for kind in OVERALL] for one in shown])
    regret = captured.max(axis=1, keepdims=True) - captured
    print(f"{len(shown)} cells: {', '.join(name for name, one in cells.items() if one in shown)}.\n")
    rows = [
        [kind, number(captured[:, k].mean()), number(regret[:, k].mean()), number(regret[:, k].max())]
        for k, kind in enumerate(OVERALL)
    ]
    table(["reward", "mean captured", "mean regret", "largest regret"], rows)


def less(one: Mapping[str, Any], label: str) -> str:
    """A rule's utility less that of the best kind of model, paired by author."""
    if BEST not in one["users"] or label == BEST:
        return ""
    here, best = (np.array([curve[-1] for curve in one["users"][name]]) for name in (label, BEST))
    return mean_of(here - best)


def table_quantities(cells: Cells) -> None:
    """Naive and corrected quantities."""
    for name, one in cells.items():
        print(f"**{name}**\n")
        rows = []
        for label, model in one["models"].items():
            row = [label, spanned(model["naive"]["alpha"])]
            for key in ("beta", "rho_plus", "rho_minus"):
                row += [spanned(model["naive"][key]), spanned(model["corrected"].get(key))]
            rows.append([*row, spanned(model["corrected"].get("beta_05"))])
        heads = [f"{key}{end}" for key in ("beta", "rho+", "rho-") for end in ("", ", corrected")]
        table(["reward", "alpha", *heads, "beta_05, corrected"], rows)


def table_laws(cells: Cells) -> None:
    """Gain at the largest N by the exact curve, by the laws, and where they part."""
    for name, one in cells.items():
        print(f"**{name}**, gain at N = {one['n'][-1]}\n")
        terms = [key for key in next(iter(one["models"].values()))["ledger"] if key not in ("n", "law", "observed")]
        rows = [
            [
                label,
                spanned(model["gain"][-1]),
                *(number(model["law"][key][-1]) for key in ("bound", "normal", "reward", "pool")),
                *(number(model["ledger"][key]) for key in terms),
            ]
            for label, model in one["models"].items()
        ]
        table(["reward", "exact", "bound", "normal", "reward law", "pool", *terms], rows)


def table_ablation(cells: Cells) -> None:
    """Variants of the probabilistic model."""
    for name, one in cells.items():
        rows = [
            [
                label,
                what,
                spanned(one["curves"][label]["captured"][-1]),
                spanned(one["models"][label]["naive"]["alpha"]),
                spanned(one["models"][label]["naive"]["beta"]),
                number(one["models"][label]["corrected"].get("beta", [None])[0]),
            ]
            for label, what in ABLATION.items()
            if label in one["models"]
        ]
        if len(rows) > 2:
            print(f"**{name}**, N = {one['n'][-1]}\n")
            table(["model", "what it is", "captured", "alpha", "beta", "beta, corrected"], rows)


def table_tokens(cells: Cells) -> None:
    """Utility by budget: the rules of a policy beside textual feedback, whose critiques count."""
    for name, one in cells.items():
        own = any(label == "feedback" or label.startswith("lora") for label in one["curves"])
        if name.endswith("-plain") or own:
            each, extra = tokens(one), 0.0
            if "feedback" in one["curves"]:
                extra = critiques(one)
            print(f"**{name}**: about {each:.0f} tokens a candidate, critiques and advice {extra:.0f} a step\n")
            rows = [["single sample", *[spanned(one["curves"]["oracle"]["utility"][0])] * len(one["n"])]]
            rows += [
                [label, *(spanned(cell) for cell in one["curves"][label]["utility"])]
                for label in SPENT
                if label in one["curves"]
            ]
            table(["rule", *(f"N = {n}, {each * n:.0f} tokens" for n in one["n"])], rows)


def tokens(one: Mapping[str, Any]) -> float:
    """Tokens of a candidate, by its words."""
    return float(WORD * one["sizes"]["words"])


def critiques(one: Mapping[str, Any]) -> float:
    """Tokens of critique and advice of a step of textual feedback, at most."""
    return 2.0 * one["policy"].get("critique_tokens", 0)


def table_worth(cells: Cells) -> None:
    """What a personal policy, a personal choice, and both buy against one plain sample; paired by author."""
    rows = []
    for name, one in cells.items():
        base = cells.get(name.split("-")[0] + ("-plain-30" if name.endswith("-30") else "-plain"))
        if base is None or "-plain" in name or name in PLAIN_POLICY:
            continue
        size = max(n for n in one["n"] if n in base["n"])
        both = sorted(set(one["names"]) & set(base["names"]))
        start = utility_of(base, "oracle", 1, both)
        gains = [
            mean_of(utility_of(cell, rule, n, both) - start) if rule in cell["users"] else ""
            for cell, rule, n in (
                (one, "oracle", 1),
                *((base, rule, size) for rule in WORTH),
                *((one, rule, size) for rule in WORTH),
                (one, "oracle", size),
            )
        ]
        rows.append([name, str(len(both)), str(size), mean_of(start), *gains])
    choices = [f"{what}, {rule}" for what in ("choice", "both") for rule in WORTH]
    table(["policy", "authors", "N", "one plain sample", "policy", *choices, "best of the policy's"], rows)


def table_personal(cells: Cells) -> None:
    """One sample by what stands in the prompt: nothing, papers of another author, the author's own, a summary."""
    base = cells[PLAIN]
    rows: list[list[str]] = []
    for name, what in IN_PROMPT.items():
        if name not in cells:
            continue
        both = sorted(set(cells[name]["names"]) & set(base["names"]))
        reached = utility_of(cells[name], "oracle", 1, both)
        gain = "" if name == PLAIN else mean_of(reached - utility_of(base, "oracle", 1, both))
        rows.append([what, str(len(both)), mean_of(reached), gain, beyond_control(cells, name, both)])
    table(["in the prompt", "authors", "one sample", "more than nothing", "more than the control"], rows)


def beyond_control(cells: Cells, name: str, users: Sequence[str]) -> str:
    """What one sample of a cell is worth beyond one of its control, by the authors that both have."""
    control = CONTROLS.get(name, STRANGERS)
    if control not in cells:
        return ""
    known = sorted(set(users) & set(cells[control]["names"]))
    return mean_of(utility_of(cells[name], "oracle", 1, known) - utility_of(cells[control], "oracle", 1, known))


def utility_of(one: Mapping[str, Any], rule: str, n: int, users: Sequence[str]) -> np.ndarray:
    """Mean utility of each of some authors by a rule at an N."""
    known = dict(zip(one["names"], one["users"][rule], strict=True))
    return np.array([known[user][one["n"].index(n)] for user in users])


def mean_of(values: np.ndarray) -> str:
    """Mean over authors with its interval."""
    return spanned(interval_of(values))


def interval_of(values: np.ndarray) -> list[float | None]:
    """Mean over authors and the ends of its interval."""
    count = len(values)
    columns: dict[tuple[str, int], np.ndarray] = {("one", 0): np.ones(count), ("value", 0): values}
    names = tuple(map(str, range(count)))
    panel = Panel([user_influences(columns, np.full(count, 1 / count), np.arange(count), names)])
    return ends(panel.interval({("value", 0): 1.0}, {("one", 0): 1.0}))


def table_protocol(cells: Cells) -> None:
    """Means of three random subsets a query beside the exact means."""
    for name, one in cells.items():
        print(f"**{name}**\n")
        rows = [
            [
                label,
                *(
                    f"{drawn:.3f} / {exact[0]:.3f}"
                    for drawn, exact in zip(found, one["curves"][label]["utility"], strict=True)
                ),
            ]
            for label, found in one["protocol"].items()
        ]
        table(["reward", *(f"N = {n}" for n in one["n"])], rows)


def table_metric(cells: Cells) -> None:
    """Print every cell's rules: what they learned from, the other metric, and the cell's own of the same picks."""
    rows: list[list[str]] = []
    for name, one in cells.items():
        single = spanned(one["oracle"]["utility"][0])
        rows.append([name, "single sample", "", "1", single, "", spanned(one["oracle"]["beside"][0]), ""])
        rules = [(label, learned, told) for learned, own in one["rules"].items() for label, told in own.items()]
        for label, learned, told in [*rules, ("oracle", "", one["oracle"])]:
            reached, share, beside = (spanned(told[key][-1]) for key in ("utility", "captured", "beside"))
            more = bought(one, label, learned)
            rows.append([name, label, learned, str(one["n"][-1]), reached, share, beside, more])
    known = next(iter(cells.values()))
    metric, first = known["metric"], known["primary"]
    heads = ["cell", "choice", "learned from", "N", metric, "captured", f"{first} of the same picks"]
    table([*heads, f"{metric}: learned from it less from {first}"], rows)


def bought(one: Mapping[str, Any], label: str, learned: str) -> str:
    """What learning from the other metric itself buys, paired by author."""
    if learned != one["metric"]:
        return ""
    here, there = (
        np.array([curve[-1] for curve in one["rules"][key][label]["users"]]) for key in (learned, one["primary"])
    )
    return mean_of(here - there)


def table_scoring(cells: Cells) -> None:
    """Milliseconds of processor time a scored candidate: the first model embeds the texts, later ones find them."""
    rows = []
    for name, one in cells.items():
        spent = dict(one["scoring"])
        cells_of_row = [f"{spent.pop(label):.1f}" if label in spent else "" for label in ("pooled", "similarity")]
        if spent:
            rows.append([name, *cells_of_row, f"{max(spent.values()):.1f}"])
    table(["cell", "`pooled`, embeddings included", "`similarity`, histories included", "others at most"], rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """One Markdown table."""
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def number(value: float | None) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{round(value, 3) + 0.0:.3f}"


def spanned(value: Sequence[float | None] | None) -> str:
    """A value with its interval."""
    if not value or value[0] is None:
        return "-"
    told = number(value[0])
    low, high = (*value, None, None)[1:3]
    return told if low is None or high is None else f"{told} ({number(low)} to {number(high)})"
