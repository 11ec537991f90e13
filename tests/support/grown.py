"""A run on ratings that are noise, and newcomers of a journal whose taste is the length: a refit learns something."""

from dataclasses import replace

import numpy as np

import bestfor as bf
from bestfor.labels.records import Label

RUN = """
[data]
source = "table"
path = "{path}"
[split]
min_fit = 4
min_test = 2
[[reward]]
kind = "hierarchical"
components = 0
"""


def noise_run(folder):
    """Make a run in a folder."""
    draw = np.random.default_rng(0)
    rows = ["user,text,rating"]
    for user in range(6):
        for number in range(12):
            rows.append(f"u{user},{'park ' * int(draw.integers(1, 16))}{number},{draw.normal():.3f}")
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    (folder / "run.toml").write_text(RUN.format(path=folder / "ratings.csv"))
    bf.run(bf.load_config(folder / "run.toml"), folder / "run")
    return folder / "run"


def rate_lengths(journal, people=12, count=20, tenant=""):
    """Let newcomers rate texts by their length."""
    for user in range(people):
        labels = []
        for number in range(count):
            words = 1 + (7 * number + user) % 16
            text = f"{'park ' * words}{number} of {user}"
            value = float(np.clip(words / 16, 0, 1))
            made = Label(f"{user}/{number}", f"n{user}", "rating", None, value, 0.0, 1.0, (text,), f"prompt {number}")
            labels.append(replace(made, time=1.0))
        journal.add_labels(tenant, labels)
