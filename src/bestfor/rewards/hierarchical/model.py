"""Hierarchical: every user has an own reward, and all users' rewards are drawn from one learned distribution.

    y = z'(theta_0 + d_u + e_q) + c_q + e,   theta_0 ~ N(0, G),  d_u ~ N(0, S),  c_q ~ N(0, t_q),  e ~ N(0, s2 v(x))

z are the features and an intercept, so a user's level is part of d_u. S says along which directions people differ; it
is learned from all users, so a few labels of a new user go a long way, and without any label theta_0 answers. Its shape
(none, isotropic, full under a prior of some strength) is the one that best predicts users whom it was not learned from.
e_q ~ N(0, s2 t/p I) is what one query alone asks for: without it that would be learned as taste.

With ``kernel = "rational_quadratic"`` z also holds features of a nonlinear kernel on texts: a Gaussian process with
covariance (users) x (texts). Everything is closed-form empirical Bayes (Lindley & Smith 1972; Laird & Ware 1982); the
optional variance head v weighs labels down where leave-one-out errors are large for everybody. Where people share
texts, what everybody makes of one beyond z is taken out of its labels first (:mod:`.texts`), and the shape of S and v
are judged by unseen texts (:mod:`.unseen_texts`). A person's further
labels update theta_0 + d_u exactly, as if they had been there at the fit, and nobody else's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.errors import BestforError
from bestfor.rewards.features import check_signature, check_width
from bestfor.rewards.features.kernel import TextKernel, fit_kernel
from bestfor.rewards.hierarchical.fit import (
    HierarchicalFit,
    LeftOutUsers,
    fit_rows,
    held_out_temperature,
    judge_users,
    noise_features,
    noise_sizes,
    predict_rows,
)
from bestfor.rewards.hierarchical.labels import CompactRows
from bestfor.rewards.hierarchical.structure import Structure, restore_structure
from bestfor.rewards.hierarchical.texts import TextEffects, without_text_effects
from bestfor.rewards.hierarchical.users import Scorer, UserPosteriors, means
from bestfor.rewards.hierarchical.variances import CovarianceOption, Prior
from bestfor.rewards.learner import BaseLabels, LinearLearner, Units
from bestfor.rewards.linear.pooled import place_prior, pool_rows
from bestfor.rewards.posterior import Belief, no_preferences
from bestfor.rewards.rows import apply_rows, rounded, with_intercept
from bestfor.rewards.style_prior import PriorFeatureConfig
from bestfor.threads import for_size
from bestfor.types import FloatArray, IntArray, RewardEstimate

SHARED = ("normal", "right", "shared", "shared_covariance")


class Config(PriorFeatureConfig):
    """Features, the shape of S, and the variance head.

    Attributes:
        whiten: as in every feature configuration, but off by default.
        prior: as of ``pooled``: a prior mean of theta_0 from other conversations; empty for none.
        kernel: linear for the features alone; rational_quadratic adds features of a kernel on the texts' embeddings.
        kernel_length: how near two unit embeddings must be to mean the like.
        kernel_components: kernel features at most.
        landmarks: texts of the fit part that stand for all in the kernel, at most.
        covariance: shape of S: none (users differ in their level alone), isotropic (a variance for each group of
            features), low_rank, inverse_wishart (any, with an inverse-Wishart prior around the isotropic one) or full
            (the same, but the prior's scales move with S); auto takes what best predicts held-out users (where people
            share texts: unseen texts) of isotropic and two inverse-Wishart priors, or none where that is as good within
            a standard error.
        rank: directions of a low-rank S.
        shrinkage: how many users' worth of evidence pulls an inverse-Wishart or full S towards its isotropic fit.
        query_slopes: variance of weights that every query has of its own, summed over the features and over the
            noise's; None stands for 0, or, where the covariance is auto, for what the evidence asks for.
        rounds: EM steps at most (12 under an inverse-Wishart prior, whose later steps fit noise).
        variance_head: whether noise may depend on the features; where people share texts, only if unseen texts say so.
        variance_components: features that the variance head sees, from the first.
        variance_ridge: penalty on the head's weights.
        text_effects: whether what everybody makes of a text is taken out of its labels, where people share texts.
        temper: whether all predicted variances are multiplied by what a fifth of the labels asks for that a fit to the
            others did not see (of shared texts: a fifth of the texts); it costs another fit and changes no mean.
        abstain: whether users whose leave-one-out errors are not expected to be below theta_0's are served by it.
    """

    whiten: bool = False
    kernel: Literal["linear", "rational_quadratic"] = "linear"
    kernel_length: float = Field(default=0.5, gt=0)
    kernel_components: int = Field(default=64, ge=1, le=4096)
    landmarks: int = Field(default=512, ge=2, le=8192)
    covariance: CovarianceOption = "auto"
    rank: int = Field(default=8, ge=1, le=512)
    shrinkage: float = Field(default=60.0, ge=0)
    query_slopes: float | None = Field(default=None, ge=0)
    rounds: int = Field(default=60, ge=1, le=1000)
    variance_head: bool = True
    variance_components: int = Field(default=48, ge=1, le=512)
    variance_ridge: float = Field(default=3.0, gt=0)
    text_effects: bool = True
    temper: bool = False
    abstain: bool = True


class Hierarchical(LinearLearner):
    """Personal weights under a learned prior."""

    kind = "hierarchical"
    has_std = True
    hears = True
    Config = Config
    sliced = True
    shardable = True
    _left_out: LeftOutUsers | None = None
    _kernel: TextKernel | None = None

    @property
    def structure(self) -> Structure | None:
        """Structure of users' and queries' differences, as configured or as chosen; None before fit."""
        return self._fitted_values.structure if self._fitted else None

    @property
    def left_out(self) -> LeftOutUsers | None:
        """Leave-one-out errors of the fitted users, in the order of their ids; None before fit and after load."""
        return self._left_out

    def settled(self) -> dict[str, Any]:
        """Structure of tastes, as configured or as chosen, and whether noise depends on features."""
        head = self._fitted_values.head
        return {**self._fitted_values.structure.state(), "variance_head": bool(np.any(head[:-1]))}

    def features(self, candidates: Candidates) -> FloatArray:
        """Features of every row, (n, features): components, surface, kernel."""
        design = self._design(candidates)
        if self._kernel is None:
            return design.rows()
        text, row = np.unique(candidates.text, return_inverse=True)
        encoder = self._require_encoder()
        check_signature(encoder, self.config.encoder, self._signature)
        vectors = encoder.encode([candidates.texts[code] for code in text]).astype(np.float64)
        return np.hstack([design.rows(), self._kernel.features(vectors)[row]])

    def for_user(self, user: str) -> Scorer:
        """Make what scores one user's candidates by the fit's labels alone; :meth:`person` learns from further ones.

        Raises:
            BestforError: before fit, or the model was loaded for somebody else.
        """
        if not self._fitted or self._space is None:
            raise BestforError(f"'{self.kind}' scores after fit or load")
        self._check_loaded_for((user,))
        if self._shards is not None:
            return self._among((user,)).for_user(user)
        fitted, code = self._fitted_values, int(self._known_codes((user,))[0])
        weights = fitted.posteriors.shared if code < 0 else fitted.posteriors.weights[code]
        level = fitted.centre + fitted.unit * float(weights[-1])
        return Scorer(user, fitted.unit * weights[:-1], level, self._space, self._kernel)

    def features_of(
        self, embeddings: npt.NDArray[np.floating], surface: npt.NDArray[np.floating] | None = None
    ) -> npt.NDArray[Any]:
        """Features of texts whose embeddings are at hand, kernel features among them."""
        found = super().features_of(embeddings, surface)
        if self._kernel is None:
            return found
        return np.hstack([found, self._kernel.features(embeddings.astype(np.float64))])

    def text_effects(self, candidates: Candidates) -> FloatArray:
        """Variance of z'theta_0 and of what people who share a text err alike, shape (n, 1)."""
        fitted, z = self._fitted_values, with_intercept(self.features(candidates))
        shared = np.sum((z @ fitted.posteriors.shared_covariance) * z, axis=1)
        return (self._temperature * fitted.unit**2 * (shared + fitted.text))[:, None]

    @property
    def hidden_variance(self) -> float:
        """Variance of what people make alike of a text beyond its features."""
        return float(self._temperature * self._fitted_values.unit**2 * self._fitted_values.text)

    def belief(self, code: int) -> Belief:
        """Posterior of a user's weights."""
        return self._fitted_values.posteriors.belief(code)

    def units(self) -> Units:
        """Give the scales."""
        fitted, prior = self._fitted_values, self._fitted_values.posteriors.prior
        slope = prior.noise * fitted.structure.slopes / max(len(prior.shared) - 1, 1)
        return Units(fitted.centre, fitted.unit, prior.ratio * prior.noise, slope, self._temperature)

    def noise(self, columns: FloatArray, code: int) -> FloatArray:
        """Variance of a label's noise, shape (n,)."""
        return noise_sizes(columns, self._fitted_values.head) + self._fitted_values.text

    def _base_labels(self, code: int) -> BaseLabels | None:
        posteriors = self._fitted_values.posteriors
        if code < 0:
            return None
        none = no_preferences(len(posteriors.shared))
        return BaseLabels(posteriors.labels(code), none, posteriors.newcomer, posteriors.crowd)

    def _fit(self, candidates: Candidates, rng: int) -> None:
        self._kernel, self._signature = None, ""
        if self.config.kernel != "linear":
            encoder, text = self._require_encoder(), np.unique(candidates.text)
            vectors = encoder.encode([candidates.texts[code] for code in text]).astype(np.float64)
            sizes = (self.config.kernel_components, self.config.landmarks)
            self._kernel = fit_kernel(vectors, self.config.kernel_length, *sizes, rng=rng)
            self._signature = encoder.signature
        rows, centre, unit = pool_rows(self.features(candidates), candidates)
        groups, config, mean = self.groups(), self.config, None
        with for_size(rows.z.shape[1]):
            if config.prior:
                assert self._space is not None
                placed = place_prior(rows, candidates, self._space, config.prior)
                self._fit_notes += placed.notes
                mean, rows = placed.mean, replace(rows, y=rows.y - apply_rows(rows.z, placed.mean))
            effects = without_text_effects(rows, candidates.text) if config.text_effects else TextEffects(rows)
            fitted = fit_rows(effects.rows, groups, config, rng=rng, scale=(centre, unit), effects=effects)
            self._fit_notes += fitted.structure.notes
            self._temperature = 1.0
            if self.config.temper:
                self._temperature = held_out_temperature(
                    rows, candidates.text, groups, config, rng=rng, structure=fitted.structure
                )
            self._left_out, abstained = judge_users(effects.rows, fitted)
        self._fitted_values = fitted
        if mean is not None:
            self._fitted_values = replace(fitted, posteriors=fitted.posteriors.moved(mean))
        self._abstained = abstained if self.config.abstain else None

    def take_fit(self, fitted: HierarchicalFit) -> None:
        """Take over what was fitted elsewhere, without a kernel or a temperature."""
        self._fitted_values, self._kernel, self._signature, self._temperature = fitted, None, "", 1.0
        self._fit_notes += fitted.structure.notes
        self._left_out = self._abstained = None

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        codes = self._user_codes(candidates)
        z = with_intercept(self.features(candidates))
        with for_size(z.shape[1]):
            mean, own, whole = predict_rows(self._fitted_values, z, codes)
        notes = self._new_user_notes(candidates, codes, "the mean of all users")
        return RewardEstimate(mean, np.sqrt(self._temperature * whole), np.sqrt(self._temperature * own), notes)

    def predict_shared(self, candidates: Candidates) -> FloatArray:
        """Rewards of somebody without labels, shape (n,): theta_0."""
        fitted, z = self._fitted_values, with_intercept(self.features(candidates))
        mean = means(fitted.posteriors.shared[None], z, np.zeros(len(z), dtype=np.int64))
        return rounded(fitted.centre + fitted.unit * mean)

    def groups(self) -> IntArray:
        """Group of each column of z: features of one sort (by the word before the dot), kernel, intercept."""
        assert self._space is not None
        kernel = 0 if self._kernel is None else self._kernel.basis.shape[1]
        sorts = [name.split(".")[0] for name in self._space.columns] + ["kernel"] * kernel + ["intercept"]
        first = {sort: code for code, sort in enumerate(dict.fromkeys(sorts))}
        return np.array([first[sort] for sort in sorts], dtype=np.int64)

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        fitted, posteriors = self._fitted_values, self._fitted_values.posteriors
        prior = posteriors.prior
        state = {"noise": prior.noise, "ratio": prior.ratio, "centre": fitted.centre, "unit": fitted.unit}
        state["temperature"] = self._temperature
        state |= fitted.structure.state()
        if fitted.text:
            state["text"] = fitted.text
        arrays = {"deviation": prior.deviation, "slopes": prior.shared, "head": fitted.head, **user_arrays(posteriors)}
        if self._kernel is not None:
            state |= {"signature": self._signature}
            arrays |= {f"kernel.{name}": getattr(self._kernel, name) for name in ("landmarks", "basis", "centre")}
        return state, {**arrays, **{name: getattr(posteriors, name) for name in SHARED}}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._left_out, self._kernel, self._signature = None, None, ""
        self._temperature = float(state["temperature"])
        if self.config.kernel != "linear":
            marks, basis, centre = (arrays[f"kernel.{name}"] for name in ("landmarks", "basis", "centre"))
            check_width(marks, self._encoder)
            if basis.shape != (len(marks), *centre.shape):
                raise ValueError(f"a kernel of shapes {marks.shape}, {basis.shape} and {centre.shape}")
            self._kernel = TextKernel(marks, basis, centre, self.config.kernel_length)
            self._signature = str(state["signature"])
        labels, ends, weights = arrays["user.labels"], arrays["user.labels.ends"], arrays["user.weights"]
        p, users = len(arrays["slopes"]), len(self._users)
        shapes = [arrays[name].shape for name in ("deviation", *SHARED)] + [weights.shape, ends.shape]
        expected = [arrays["deviation"].shape[:1] * (1 + (arrays["deviation"].ndim > 1)), (p, p), (p,), (p,), (p, p)]
        shapes.append(arrays["head"].shape)
        expected += [(users, p), (users + 1,), (noise_features(self.config, p) + 1,)]
        if shapes != expected or len(self.groups()) != p or labels.shape != (int(ends[-1]), p + 2):
            raise ValueError(f"arrays of shapes {shapes} and {labels.shape} for {len(self.groups())} features")
        target, level = labels[:, p].astype(np.float64), labels[:, p + 1].astype(np.float64)
        data = CompactRows(np.ascontiguousarray(labels[:, :p]), target, level, ends, 0.0, len(labels), 0.0)
        prior = Prior(arrays["deviation"], arrays["slopes"], float(state["noise"]), float(state["ratio"]))
        posteriors = UserPosteriors(prior, data, **{name: arrays[name] for name in SHARED}, weights=weights)
        scale = float(state["centre"]), float(state["unit"])
        text = float(state.get("text", 0.0))
        self._fitted_values = HierarchicalFit(posteriors, arrays["head"], *scale, restore_structure(state), text)


def user_arrays(posteriors: UserPosteriors) -> Arrays:
    """Arrays with rows of users, as a model stores them."""
    data = posteriors.data
    labels = np.column_stack([data.rows, data.target.astype(np.float32), data.level.astype(np.float32)])
    return {"user.weights": posteriors.weights, "user.labels": labels, "user.labels.ends": data.ends}
