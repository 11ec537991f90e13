"""Fit to labels that lie in blocks of users: one block is in memory at a time, and several machines may share the work.

A fit is rounds of a map and a reduction: a plain function of one block gives sums (or writes a shard of the model), and
a small reduction puts the sums of all blocks together. What every round maps and reduces stands in the module of each
kind: :mod:`bestfor.rewards.blocks.linear` (``pooled``, ``ridge``), :mod:`bestfor.rewards.blocks.hierarchical` and
:mod:`bestfor.rewards.blocks.tastes`.
"""

from bestfor.rewards.blocks.fit import fit_blocks

__all__ = ["fit_blocks"]
