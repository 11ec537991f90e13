"""The rows of the section beyond the pool, as words."""

from __future__ import annotations

from collections.abc import Sequence

from bestfor.report import view, words
from bestfor.report.beyond import NAMES
from bestfor.report.outlook import METHODS, Needed, Numbers, Other, Soft
from bestfor.report.tables import Cell, Row

QUANTITY_NAMES = {"captured": "captured share", "alpha": "α, collapsed users", "beta": "β, naive"}


def protocol_line(model: view.Model) -> str:
    """How noisy the usual protocol would be here; empty where that is not known."""
    known = [(size, sd) for size, sd in zip(model.n, model.outlook.three_draw, strict=True) if sd]
    if not known:
        return ""
    size, sd = known[-1]
    places = max(words.decimals([sd]) - 1, 2)
    return (
        f"The usual protocol, the mean of 3 random draws of N, would add noise of ±{words.number(sd, places)} (one "
        f"standard deviation) at N = {size}; the curve here is exact over all draws and adds none."
    )


MAIN, OTHERS = ("order_2", "gao"), ("order_1", "order_3")
"""The two predictions that decide on trust, and those shown beside them."""


def steps(model: view.Model, methods: tuple[str, ...] = MAIN) -> list[Row]:
    """One row an N: the gain by some methods, and, for the main ones, whether to trust it."""
    values = [step.values[method] for step in model.outlook.steps for method in METHODS]
    places = words.decimals(values)
    rows: list[Row] = []
    for step in model.outlook.steps:
        cells = [
            Cell(
                words.number(step.values[method], places, signed=True),
                words.span(step.values[f"{method}_low"], step.values[f"{method}_high"], "number", places),
            )
            for method in methods
        ]
        if methods == MAIN:
            cells.append(Cell("yes" if step.trusted else "no"))
        rows.append(Row(str(step.n), str(step.n), tuple(cells)))
    return rows


def names(methods: tuple[str, ...]) -> list[str]:
    """What people call the methods."""
    return [NAMES[method] for method in methods]


def costs(model: view.Model) -> list[Row]:
    """One row a price: the N that pays where a doubling costs it, where each candidate does, and what that earns."""
    places = words.decimals([one.net for one in model.outlook.fixed])
    doubling = dict(model.best_n)
    each = {one.cost: one for one in model.outlook.fixed if one.cost is not None}
    rows: list[Row] = []
    for cost in sorted({*doubling, *each}):
        one, label = each.get(cost), f"{cost:g}"
        largest = bool(model.n) and doubling.get(cost) == model.n[-1]
        cells = [Cell(words.count(doubling.get(cost)), "the largest tried" if largest else "")]
        if one is None:
            cells += [Cell(words.NONE), Cell(words.NONE)]
        else:
            edge = "or more" if one.at_edge else ""
            cells.append(Cell(words.count(one.n), edge))
            cells.append(Cell(words.number(one.net, places), words.span(one.low, one.high, "number", places)))
        rows.append(Row(label, label, tuple(cells)))
    return rows


def soft(model: view.Model) -> list[Row]:
    """One row a temperature: the difference from picking the highest reward, at every N above 1."""
    labels = (words.NONE if one.in_sd is None else f"{one.in_sd:g} sd" for one in model.outlook.soft)
    return _differences(model, list(zip(labels, model.outlook.soft, strict=True)))


def others(model: view.Model) -> list[Row]:
    """One row another rule: the difference from picking the highest reward, at every N above 1."""
    return _differences(model, [(one.rule, one) for one in model.outlook.others])


def _differences(model: view.Model, choices: Sequence[tuple[str, Soft | Other]]) -> list[Row]:
    places = words.decimals(value for _, one in choices for value in one.difference)
    rows: list[Row] = []
    for label, one in choices:
        curves = zip(model.n, one.difference, one.low, one.high, strict=True)
        cells = tuple(
            Cell(words.number(value, places, signed=True), words.span(low, high, "number", places))
            for n, value, low, high in curves
            if n > 1
        )
        rows.append(Row(label, label, cells))
    return rows


def per_user(model: view.Model) -> str:
    """What one N for each user would earn, in a sentence."""
    chosen = model.outlook.per_user
    if chosen is None:
        return ""
    if chosen.reason:
        return f"Not known: {chosen.reason}."
    v = chosen.values
    gain = words.number(v.get("gain"), 4, signed=True)
    interval = words.span(v.get("gain_low"), v.get("gain_high"), "number", 4)
    return (
        f"{gain}{f' ({interval})' if interval else ''} net utility against one N for all, at "
        f"{v.get('cost_per_candidate') or 0:g} a candidate: {words.number(v.get('own_n'), 1)} candidates on average "
        f"instead of {words.number(v.get('common_n'), 1)}. Judged on {words.plural(int(v.get('users') or 0), 'user')} "
        f"with two queries or more, one half of their queries choosing for the other; a user's own slope weighs "
        f"{words.percent(v.get('trust'))} against everybody's."
    )


def distribution(chosen: Numbers | None) -> list[tuple[str, str]]:
    """Shares of users by their N, in at most eight ranges."""
    if chosen is None or not chosen.n:
        return []
    width = -(-len(chosen.n) // 8)
    rows: list[tuple[str, str]] = []
    for start in range(0, len(chosen.n), width):
        sizes, shares = chosen.n[start : start + width], chosen.share[start : start + width]
        label = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        rows.append((label, words.percent(sum(shares))))
    return rows


def stopping(model: view.Model) -> str:
    """What the stopping rule did, in a sentence or two."""
    told = model.outlook.stopping
    if told is None:
        return ""
    if told.reason:
        return f"Not replayed: {told.reason}."
    v = told.values
    interval = words.span(v.get("advantage_low"), v.get("advantage_high"), "number", 4)
    return (
        f"{told.verdict} At {v.get('cost_per_candidate') or 0:g} a candidate it nets {words.number(v.get('net'), 4)} "
        f"against {words.number(v.get('fixed_net'), 4)}, a difference of "
        f"{words.number(v.get('advantage'), 4, signed=True)}{f' ({interval})' if interval else ''}."
    )


def needed(model: view.Model) -> list[Row]:
    """One row a quantity: how well it is known, and what more it takes."""
    return [
        Row(one.quantity, QUANTITY_NAMES.get(one.quantity, one.quantity), (Cell(_now(one)), _more(one)))
        for one in model.outlook.needed
    ]


def _now(one: Needed) -> str:
    return words.NONE if one.now is None else f"±{words.percent(one.now)}"


def _more(one: Needed) -> Cell:
    if one.more_users is None:
        why = words.NO_INTERVAL if one.now is None else "no number of users alone is enough: the texts are too few"
        return Cell(words.NONE, why=why)
    if one.more_users == 0:
        return Cell("none", f"{words.count(one.users)} would do")
    more = words.plural(one.more_users, "user")
    return Cell(more, f"or {words.plural(one.more_queries or 0, 'query', 'queries')} of theirs")
