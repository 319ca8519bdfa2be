"""BaVarIA: LiRA with a variance for each record that is only believed as far as the shadows bear it out.

Of each side (shadows that learned a record, and those that did not) mean and variance of phi have a
normal-inverse-gamma prior NIG(mu, kappa, alpha, beta), which is fitted to all records together by their moments: the
spread of records' means gives kappa, that of their variances alpha. With few shadows every record has the pooled
variance, with many its own, and nobody has to say where few ends. The score compares the posterior predictive
densities, Student's t, or Gaussians of the variance beta / alpha.

Signals are taken through asinh first: on rows that models are sure of, phi scatters as widely as it is large, and a
prior that all records share needs a spread that does not depend on the size.

Reference: Brannvall, "Exponential-family membership inference: from LiRA and RMIA to BaVarIA", arXiv 2603.11799, 2026;
fitting the prior by moments (after Smyth, "Linear models and empirical Bayes methods", 2004) and the asinh are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import t as student

from medward.attacks.membership.evidence import LEAST_VARIANCE, Evidence, pooled_variance, side_moments
from medward.attacks.membership.lira import gaussian_log_density
from medward.guard.types import Array

FIRMEST = 1e6  # how firmly, at most, a prior is believed


@dataclass(frozen=True, slots=True)
class GammaPrior:
    """A normal-inverse-gamma prior, or the posterior of each record, of a Gaussian's mean and variance."""

    mu: Array
    kappa: Array
    alpha: Array
    beta: Array

    @property
    def variance(self) -> Array:
        """The variance of the Gaussian beside Student's t."""
        return self.beta / self.alpha

    @property
    def scale(self) -> Array:
        """The scale of the predictive Student's t, of 2 alpha degrees of freedom."""
        return np.asarray(np.sqrt(self.beta * (self.kappa + 1) / (self.alpha * self.kappa)))

    def updated(self, count: Array, mean: Array, squares: Array) -> GammaPrior:
        """The posterior of each record ``(n,)`` after `count` signals of that `mean` and sum of `squares` about it."""
        kappa = self.kappa + count
        mean = np.where(count > 0, mean, self.mu)
        gap = self.kappa * count * (mean - self.mu) ** 2 / (2 * kappa)
        return GammaPrior(
            (self.kappa * self.mu + count * mean) / kappa,
            kappa,
            self.alpha + count / 2,
            self.beta + squares / 2 + gap,
        )


def fit_prior(count: Array, mean: Array, squares: Array) -> GammaPrior:
    """The prior whose moments are those of the records: of their means, and of their variances."""
    within = pooled_variance(count, squares)
    known = count > 0
    middle = float(mean[known].mean()) if known.any() else 0.0
    between = float(np.mean((mean[known] - middle) ** 2 - within / count[known])) if known.any() else 0.0
    kappa = min(within / max(between, within / FIRMEST), FIRMEST)
    own = squares[count > 1] / (count[count > 1] - 1)
    noise = float(np.mean(2 / (count[count > 1] - 1))) if len(own) else 0.0
    spread = (float(np.mean((own - within) ** 2)) - noise * within**2) / (1 + noise) if len(own) else 0.0
    alpha = 2 + min(within**2 / max(spread, within**2 / FIRMEST), FIRMEST)
    return GammaPrior(*(np.asarray(each) for each in (middle, kappa, alpha, within * (alpha - 1))))


def fit_posterior(shadows: Array, mask: NDArray[np.bool_]) -> GammaPrior:
    """The posterior ``(n,)`` of the side in `mask (K, n)`, of signals through asinh."""
    moments = side_moments(np.arcsinh(shadows), mask)
    found = fit_prior(*moments).updated(*moments)
    return GammaPrior(found.mu, found.kappa, found.alpha, np.maximum(found.beta, LEAST_VARIANCE * found.alpha))


def online_bavaria(evidence: Evidence) -> Array:
    """BaVarIA-t: the difference ``(n,)`` of log predictive densities, in less out."""
    sides = [fit_posterior(evidence.shadows, mask) for mask in (evidence.included, ~evidence.included)]
    inside, outside = (student.logpdf(np.arcsinh(evidence.phi), 2 * side.alpha, side.mu, side.scale) for side in sides)
    return np.asarray(inside - outside)


def online_bavaria_normal(evidence: Evidence) -> Array:
    """BaVarIA-n: the same ``(n,)`` of Gaussians with the posterior's variance."""
    sides = [fit_posterior(evidence.shadows, mask) for mask in (evidence.included, ~evidence.included)]
    inside, outside = (gaussian_log_density(np.arcsinh(evidence.phi), side.mu, side.variance) for side in sides)
    return inside - outside


def offline_bavaria(evidence: Evidence) -> Array:
    """The score -log Pr[t > phi] ``(n,)`` under the predictive Student's t of shadows that did not learn a row."""
    side = fit_posterior(evidence.shadows, ~evidence.included)
    return -student_log_tail((np.arcsinh(evidence.phi) - side.mu) / side.scale, 2 * side.alpha)


def offline_bavaria_normal(evidence: Evidence) -> Array:
    """The score -log Pr[N > phi] ``(n,)`` under Gaussians with the posterior's variance."""
    side = fit_posterior(evidence.shadows, ~evidence.included)
    return np.asarray(-log_ndtr(-(np.arcsinh(evidence.phi) - side.mu) / np.sqrt(side.variance)))


def student_log_tail(values: Array, freedom: Array) -> Array:
    """The log of Pr[t > values] ``(n,)``, by its asymptote pdf(x) (v + x^2) / (v x) where no float holds the tail."""
    with np.errstate(divide="ignore"):
        exact = student.logsf(values, freedom)
    far = np.maximum(values, 1.0)
    return np.asarray(
        np.where(np.isfinite(exact), exact, student.logpdf(far, freedom) + np.log(far / freedom + 1 / far))
    )
