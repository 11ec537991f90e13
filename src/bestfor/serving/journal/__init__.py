"""Journal of answers and labels: a database that keeps what was shown and what people said about it."""

from bestfor.serving.journal.records import Forgotten, JournalError, Label, Learned, LoggedAnswer, check_id
from bestfor.serving.journal.store import Journal, Standing

__all__ = ["Forgotten", "Journal", "JournalError", "Label", "Learned", "LoggedAnswer", "Standing", "check_id"]
