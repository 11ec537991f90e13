"""A user's own part: what their ratings say about near texts beyond the tastes that they share with others.

    r = y - h_0(t) = a_u'h(t) + b_q + g_u(t) + e,   g_u ~ GP(0, w K),  e ~ N(0, s2 - w)

for each user by themselves, h held at its mean. With V = HH' + t_b [same query] + w K + (s2 - w) I and z = V^-1 r the
posterior means are a_u = H'z, b_q = t_b sum of z over the query, and g_u(x) = w k(x, t)'z, which is all that has to be
kept; cov(a_u) = I - H'V^-1 H (Rasmussen & Williams 2006, section 2.2). Together with the shared tastes this is one
Gaussian process whose covariance between users is low-rank plus a diagonal (Bonilla, Chai & Williams 2008).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import linalg, sparse

from bestfor.rewards._linear import Rows
from bestfor.rewards._tastes import State
from bestfor.types import FloatArray, IntArray


def add_own_part(
    rows: Rows, item: IntArray, near: FloatArray, state: State, share: float
) -> tuple[State, sparse.csr_array]:
    """Give every user the exact posterior of tastes and own part, given what texts are.

    Args:
        rows: n centred labels sorted by user; features are not looked at.
        item: shape (n,), item of each label.
        near: shape (items, items), the kernel K.
        state: from :func:`bestfor.rewards._tastes.fit_tastes`.
        share: w over s2, in [0, 1).

    Returns:
        The state with new tastes, and w z as a sparse matrix (users, items): g_u(x) is its row times k(x, items).
    """
    own = share * state.noise
    taste, spread = np.zeros_like(state.taste), np.zeros_like(state.spread)
    offsets, echo = rows.segments(), np.zeros(len(item))
    for user in range(len(offsets) - 1):
        part = slice(offsets[user], offsets[user + 1])
        mine, query = item[part], rows.query[part]
        seen = state.item[mine, 1:]
        cover = seen @ seen.T + own * near[np.ix_(mine, mine)]
        cover += state.level_scale * (query[:, None] == query[None, :])
        cover[np.diag_indices(len(mine))] += state.noise - own
        factor = linalg.cho_factor(cover, lower=True, overwrite_a=True, check_finite=False)
        solved = linalg.cho_solve(factor, np.column_stack([rows.y[part] - state.item[mine, 0], seen]))
        echo[part] = own * solved[:, 0]
        taste[user] = seen.T @ solved[:, 0]
        spread[user] = np.eye(seen.shape[1]) - seen.T @ solved[:, 1:]
    shape = (len(offsets) - 1, len(near))
    return replace(state, taste=taste, spread=spread), sparse.csr_array((echo, (rows.user, item)), shape=shape)


def own_rows(echo: sparse.csr_array, near: FloatArray, item: IntArray, user: IntArray) -> FloatArray:
    """g_u(x) of n rows, 0 for strangers.

    Args:
        echo: from :func:`add_own_part`.
        near: shape (items asked, items), kernel to the fitted items.
        item: shape (n,), item asked in each row.
        user: shape (n,), -1 for strangers.
    """
    out = np.zeros(len(user))
    order = np.argsort(user, kind="stable")
    codes, starts = np.unique(user[order], return_index=True)
    for code, rows in zip(codes, np.split(order, starts[1:]), strict=True):
        if code >= 0:
            part = slice(echo.indptr[code], echo.indptr[code + 1])
            columns, weights = echo.indices[part], echo.data[part]
            out[rows] = np.sum(near[item[rows][:, None], columns[None, :]] * weights, axis=1)
    return out
