"""Offer what labels are and mean under the names that services use; it is all in :mod:`bestfor.labels`."""

from bestfor.labels.kinds import FindText as FindText
from bestfor.labels.kinds import check_metric_of as check_metric_of
from bestfor.labels.kinds import forget_texts as forget_texts
from bestfor.labels.kinds import hash_of as hash_of
from bestfor.labels.kinds import to_labels as to_labels
from bestfor.labels.said import ALIASES as ALIASES
from bestfor.labels.said import KINDS as KINDS
from bestfor.labels.said import LabelKind as LabelKind
from bestfor.labels.said import Statement as Statement
from bestfor.labels.said import read_said as read_said
from bestfor.labels.scale import WEIGHTS as WEIGHTS
from bestfor.labels.scale import LabelScale as LabelScale
