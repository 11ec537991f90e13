"""bestfor: sample N, answer with the one this user would pick, and know beforehand whether it pays."""

__version__ = "0.1.0"
