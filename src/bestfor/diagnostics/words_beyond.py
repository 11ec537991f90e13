"""Write the sentences about what lies beyond a curve: larger pools, one N for each user, stopping early."""

from __future__ import annotations

from dataclasses import dataclass

from bestfor.types import Estimate

EXTRAPOLABLE = "extrapolable"
NOTHING_VARIES = "not extrapolable: utilities do not vary within queries"
ONE_QUERY_EACH = "each user has one query here: a user's own N cannot be judged on queries that did not choose it"
NO_SLOPE = "on average utility does not rise with the reward: one candidate is best for everybody"
FEW_TO_JUDGE = "fewer than four users: nothing could be judged on users that did not teach the rule"
NOTHING_TO_STOP = "a pool has one candidate: there is nothing to stop"
SMALLEST_GAIN = 0.02
"""Share of what can be won that a choice must earn to be worth a change: the price of one doubling."""


def too_far(n: int, smallest: int, most: int) -> str:
    """Say that N is more than ``most`` times the smallest pool."""
    return f"not extrapolable: N = {n} is more than {most} times the {smallest} candidates of the smallest pool"


def pool_too_small(smallest: int, needed: int) -> str:
    """Say that the smallest pool is too small to go on from."""
    return f"not extrapolable: the smallest pool has {smallest} candidates; {needed} are needed"


def disagree(concomitants: float, divergence: float) -> str:
    """Say that two predictions differ, and what the lower one sees."""
    seen = (
        "utilities bend down towards the top ranks more than the curve does so far"
        if concomitants < divergence
        else "the curve flattens faster than the ranks let expect"
    )
    return f"not extrapolable: the two predictions {concomitants:.3g} and {divergence:.3g} disagree; {seen}"


def goes_on(trusted: int, ends: tuple[float, float], level: float, farthest: int) -> str:
    """Say what a gain beyond the pool would be.

    Args:
        trusted: the N that is spoken of.
        ends: of the interval.
        level: its nominal coverage.
        farthest: the largest N that was tried.
    """
    sentence = (
        f"if the curve goes on as within the pool, the gain at N = {trusted} lies between {ends[0]:.3g} and "
        f"{ends[1]:.3g} ({100 * level:g}% intervals of two predictions); a cliff or a ceiling behind the pool "
        "cannot be seen"
    )
    return sentence if trusted == farthest else f"{sentence}; at N = {farthest} the two disagree"


def matters(gain: Estimate, headroom: float) -> bool:
    """Decide whether a gain is above 0 for sure and not below 2 % of what can be won."""
    return gain.low is not None and gain.low > 0 and gain.value >= SMALLEST_GAIN * headroom


@dataclass(frozen=True)
class Exchange:
    """Candidates and gain of a stopping rule beside those of the best fixed N.

    Attributes:
        drawn: mean number of candidates by the rule.
        fixed: the best fixed N, in hindsight.
        gained: mean utility by the rule less that at the fixed N.
        cost: of a candidate, in utility units.
    """

    drawn: float
    fixed: int
    gained: float
    cost: float

    @property
    def ahead(self) -> bool:
        """Decide whether the rule earns more than the best fixed N, the cost of candidates paid."""
        return self.gained > self.cost * (self.drawn - self.fixed)

    @property
    def rule(self) -> str:
        """Name of the rule: one that draws more than the fixed N stops early for some queries only."""
        return "Stopping early" if self.drawn < self.fixed else "Stopping query by query"

    def told(self) -> str:
        """Say what is gained for how many candidates more or fewer."""
        more = f"gains {self.gained:.3g} more" if self.gained >= 0 else f"gains {-self.gained:.3g} less"
        number = f"{abs(self.drawn - self.fixed):.1f} {'fewer' if self.drawn < self.fixed else 'more'} candidates"
        return f"it {more} for {number} ({self.drawn:.1f} on average, the best fixed N is {self.fixed})"


def stopping(advantage: Estimate, headroom: float, given: Exchange) -> str:
    """Say whether a stopping rule earned more than a fixed N.

    Args:
        advantage: net of the rule less net of a fixed N that other users chose.
        headroom: what a perfect pick gains at the largest N.
        given: what it draws and gains beside the best fixed N.
    """
    seen = f"it draws {given.drawn:.1f} candidates on average where the best fixed N is {given.fixed}"
    if advantage.low is None or advantage.high is None:
        return f"{given.rule}: {seen}; too few users to tell whether it earns more. Keep N fixed."
    if matters(advantage, headroom):
        if given.ahead:
            paid = f"earns {advantage.value:.3g} more than an N that other users chose, the cost of candidates paid"
            return f"{given.rule} pays: {given.told()}, and {paid}."
        return (
            f"{given.rule} earns {advantage.value:.3g} more than an N that other users chose, but not more than the "
            f"best fixed N in hindsight: {seen}. Keep N fixed."
        )
    if advantage.low > 0:
        return (
            f"{given.rule} earns {advantage.value:.3g} more, less than {100 * SMALLEST_GAIN:g}% of what can be won: "
            f"{seen}. Keep N fixed."
        )
    if advantage.high < 0:
        return f"{given.rule} loses {-advantage.value:.3g}, the cost of candidates paid: {seen}. Keep N fixed."
    return f"{given.rule} is not shown to earn more: {seen}. Keep N fixed."
