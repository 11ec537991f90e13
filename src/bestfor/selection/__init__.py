"""Pick one of several candidates by their rewards, and say with which chances; choose which two to show."""

from bestfor.selection.pick import Pick, select
from bestfor.selection.questions import PairRule, answer_noise, pair_to_show
from bestfor.selection.rules import NAMES, Ranks, Rule, named_rule

__all__ = ["NAMES", "PairRule", "Pick", "Ranks", "Rule", "answer_noise", "named_rule", "pair_to_show", "select"]
