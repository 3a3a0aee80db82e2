"""Strengths from pairwise outcomes, by penalised maximum likelihood.

Sources: Bradley and Terry (1952); ties by Davidson (1970), "On extending the Bradley–Terry model to
accommodate ties"; the advantage of the first place by Davidson and Beaver (1977). With the gap
x = θ_first − θ_second + δ, the first wins, the second wins, or they tie with odds
e^{x/2} : e^{−x/2} : ν. Without ties (ν = 0) it is the Bradley–Terry model.

The variance is the leave-one-cluster-out jackknife, called CV3 by MacKinnon, Nielsen and Webb
(2023), "Fast and reliable jackknife and bootstrap methods for cluster-robust inference"; two
crossed ways of clustering are added up as by Cameron, Gelbach and Miller (2011).

Departures and choices
1. A ridge of ½λ‖β‖² on all parameters keeps what the outcomes leave unbounded finite. What is
   unbounded or not identified is found by linear programs and said (`Fit.state_of`), not guessed
   from the size of a number.
2. A jackknife replicate is one Newton step away from the estimate rather than a fit of its own.
3. Ties may count as half a win of each instead, ν then being 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse
from scipy.sparse import csgraph

from hark.evaluation.intervals import Array

Codes = NDArray[np.intp]
Ties = Literal["davidson", "half"]

FIRST, SECOND, TIE = 0, 1, 2
"""Outcomes of a game, as they are coded here."""
MAXIMUM_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Games:
    """Outcomes of pairs of players, told apart only by who, in what order, and how it ended."""

    players: int
    """They are numbered from 0."""
    first: Codes
    """[C]: the player in first place, for each kind of game."""
    second: Codes
    """[C]."""
    outcome: Codes
    """[C]: `FIRST`, `SECOND` or `TIE`."""
    kind: Codes
    """[n]: which of the C kinds each game was."""

    @classmethod
    def of(cls, first: Codes, second: Codes, outcome: Codes, *, players: int) -> Games:
        """Gather games [n] into kinds."""
        # One number for each kind: a million games sort in a tenth of a second, as rows in many.
        codes = (np.asarray(first, np.intp) * players + second) * 3 + outcome
        kinds, kind = np.unique(codes, return_inverse=True)
        pairs, ended = np.divmod(kinds, 3)
        one, other = np.divmod(pairs, players)
        return cls(players=players, first=one, second=other, outcome=ended, kind=kind.reshape(-1))

    @property
    def counts(self) -> Array:
        """[C]: games of each kind."""
        return np.bincount(self.kind, minlength=len(self.first)).astype(float)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """How the parameters β = (θ₁ … θ_K, [δ], [ln ν]) enter the games."""

    gap: Array
    """[C, p]: x = gap @ β."""
    tie: Array
    """[C, p]: ln ν = tie @ β; all zero where ties are not a parameter."""
    observed: Array
    """[C, 3]: shares of first, second and tie; a tie counted as half of each is (½, ½, 0)."""
    players: int
    order: int | None
    """Index of δ among the parameters."""
    ties: int | None
    """Index of ln ν."""

    @classmethod
    def of(cls, games: Games, *, ties: Ties, order_effect: bool) -> Design:
        """Davidson's ν is a parameter only if there are ties: without any its estimate is 0."""
        with_ties = ties == "davidson" and bool((games.outcome == TIE).any())
        order = games.players if order_effect else None
        tie = games.players + int(order_effect) if with_ties else None
        size = games.players + int(order_effect) + int(with_ties)
        kinds = np.arange(len(games.first))
        gap, tie_row = np.zeros((len(kinds), size)), np.zeros((len(kinds), size))
        gap[kinds, games.first] += 1.0
        gap[kinds, games.second] -= 1.0  # A player against itself tells of δ and ν alone.
        if order is not None:
            gap[:, order] = 1.0
        if tie is not None:
            tie_row[:, tie] = 1.0
        observed = np.eye(3)[games.outcome]
        if not with_ties:
            observed = observed @ np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]])
        return cls(
            gap=gap, tie=tie_row, observed=observed, players=games.players, order=order, ties=tie
        )

    def probabilities(self, beta: Array) -> Array:
        """[…, C, 3]: of first, second and tie, for each β of […, p]."""
        half = beta @ self.gap.T / 2
        tie = beta @ self.tie.T if self.ties is not None else np.full_like(half, -np.inf)
        odds = np.stack([half, -half, tie], axis=-1)
        odds = np.exp(odds - odds.max(axis=-1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=-1, keepdims=True))

    def scores(self, beta: Array) -> Array:
        """[C, p]: gradient of one game's log-likelihood."""
        surprise = self.observed - self.probabilities(beta)
        return (surprise[:, :1] - surprise[:, 1:2]) / 2 * self.gap + surprise[:, 2:] * self.tie

    def gradient(self, beta: Array, counts: Array) -> Array:
        """[…, p]: of the log-likelihood of `counts` […, C] games of each kind, at β […, p]."""
        first, second, tie = np.moveaxis(self.observed - self.probabilities(beta), -1, 0)
        return np.asarray((counts * (first - second) / 2) @ self.gap + (counts * tie) @ self.tie)

    def information(self, beta: Array, counts: Array) -> Array:
        """[…, p, p]: minus the Hessian of the log-likelihood, as `gradient`."""
        first, second, tie = np.moveaxis(self.probabilities(beta), -1, 0)
        gaps = counts * (first + second - (first - second) ** 2) / 4
        both = counts * -(first - second) * tie / 2
        ties = counts * tie * (1 - tie)
        crossed = (self.gap.T * both[..., None, :]) @ self.tie
        return np.asarray(
            (self.gap.T * gaps[..., None, :]) @ self.gap
            + crossed
            + np.swapaxes(crossed, -1, -2)
            + (self.tie.T * ties[..., None, :]) @ self.tie
        )

    def log_likelihood(self, beta: Array, counts: Array) -> Array:
        """[…]: of `counts` […, C] games of each kind, at β […, p]."""
        chances = np.log(np.maximum(self.probabilities(beta), np.finfo(float).tiny))
        return np.asarray((counts * (self.observed * chances).sum(axis=-1)).sum(axis=-1))

    def directions(self) -> Array:
        """[m, p]: rows a for which a @ d < 0 would make some observed outcome ever less likely."""
        rows = []
        lead, tie = self.gap / 2, self.tie
        logits = (lead, -lead, tie) if self.ties is not None else (lead, -lead)
        for seen in range(len(logits)):
            happened = self.observed[:, seen] > 0
            for other in range(len(logits)):
                if other != seen:
                    rows.append((logits[seen] - logits[other])[happened])
        return np.unique(np.concatenate(rows), axis=0)


Boundedness = Literal["defined", "unbounded", "not identified"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Penalised maximum-likelihood estimates."""

    games: Games
    design: Design
    beta: Array
    """[p]: strengths in logits with mean 0, then δ, then ln ν, where they are parameters."""
    information: Array
    """[p, p]: minus the Hessian of the penalised log-likelihood."""
    ridge: float

    def state_of(self, contrast: Array) -> Boundedness:
        """Whether the outcomes alone bound `contrast` @ β, from both sides, one, or none.

        The likelihood never falls along the directions d with directions @ d ≥ 0. If none of them
        changes the contrast it has one maximiser; if some only raise it, it is unbounded above.
        """
        limits = -self.design.directions()
        found = 0
        for sign in (1.0, -1.0):
            best = optimize.linprog(
                -sign * contrast, A_ub=limits, b_ub=np.zeros(len(limits)), bounds=(-1, 1)
            )
            found += int(-best.fun > 1e-7)
        states: tuple[Boundedness, ...] = ("defined", "unbounded", "not identified")
        return states[found]


def fit(games: Games, *, ties: Ties, order_effect: bool, ridge: float) -> Fit:
    """The one maximum: the objective is strictly concave for a ridge λ > 0."""
    design = Design.of(games, ties=ties, order_effect=order_effect)
    start = np.zeros(design.gap.shape[1])
    beta = maximise(design, games.counts[None], ridge=ridge, start=start)[0]
    information = design.information(beta, games.counts) + penalty_of(design, games.counts, ridge)
    return Fit(games=games, design=design, beta=beta, information=information, ridge=ridge)


def maximise(
    design: Design, counts: Array, *, ridge: float, start: Array, negligible: float = 1e-12
) -> Array:
    """[B, p]: the maximum for each row of `counts` [B, C]; Newton's method with backtracking.

    start: [p]; negligible: in log-likelihood, a step that promises less is the last one.
    """
    beta = np.tile(start, (len(counts), 1))
    penalty = penalty_of(design, counts, ridge)

    def objective(at: Array) -> Array:
        return design.log_likelihood(at, counts) - ridge / 2 * (at**2).sum(axis=1)

    for _ in range(MAXIMUM_STEPS):
        gradient = design.gradient(beta, counts) - ridge * beta
        information = design.information(beta, counts) + penalty
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        gain = (gradient * step).sum(axis=1)
        size, before = np.ones(len(counts)), objective(beta)
        while True:
            reached = objective(beta + size[:, None] * step)
            # Near the maximum the gain drowns in rounding, and the full step is right.
            too_far = (gain > 1e-8) & (reached < before + 1e-4 * size * gain)
            if not too_far.any():
                break
            size = np.where(too_far, size / 2, size)
        beta = beta + size[:, None] * step
        if (gain < negligible).all():
            return beta
    raise AssertionError("Newton's method did not converge on a concave function")


def penalty_of(design: Design, counts: Array, ridge: float) -> Array:
    """[…, p, p]: what the ridge adds to the information of `counts` […, C].

    The strengths have mean 0 at the maximum and at every step. Saying so once more changes none of
    them, and keeps rounding from being blown up along the direction in which all rise alike.
    """
    strength = np.arange(design.gap.shape[1]) < design.players
    weight = np.maximum(1.0, counts.sum(axis=-1)) / design.players**2
    alike = weight[..., None, None] * np.outer(strength, strength)
    return np.asarray(ridge * np.eye(len(strength)) + alike)


def clustered_covariance(fitted: Fit, ways: Sequence[Codes]) -> list[Array]:
    """Covariances of β to take the largest variance of: one way gives one, two ways three.

    ways: for one or two ways of clustering the cluster of each game: [n]. Of two, the sum less what
    is counted twice can be negative for a contrast; each way alone is a floor.
    """
    alone = [_jackknife(fitted, codes) for codes in ways]
    if len(ways) == 1:
        return alone
    cells = ways[0] * (int(ways[1].max()) + 1) + ways[1]
    both = np.unique(cells, return_inverse=True)[1].reshape(-1)
    return [alone[0] + alone[1] - _sandwich(fitted, both), *alone]


def effective_clusters(fitted: Fit, codes: Codes, contrast: Array) -> float:
    """How many clusters of equal size would tell as unevenly of `contrast` @ β: (Σ I)² / Σ I².

    I is a cluster's share of the information; the measure is 1 where one cluster has it all.
    """
    design = fitted.design
    towards = np.linalg.solve(fitted.information, contrast)
    gap, tie = design.gap @ towards / 2, design.tie @ towards
    logits = np.stack([gap, -gap, tie], axis=1)
    chances = design.probabilities(fitted.beta)
    told = (chances * logits**2).sum(axis=1) - (chances * logits).sum(axis=1) ** 2
    shares = _cluster_counts(fitted, codes) @ told
    return float(shares.sum() ** 2 / (shares**2).sum()) if shares.any() else 0.0


def parts_without_one(fitted: Fit, codes: Codes) -> NDArray[np.int32]:
    """[b, K]: for each cluster without which the games join fewer players, who is joined then.

    Players with different numbers in some row are held together by that one cluster.
    """
    games = fitted.games
    counts = _cluster_counts(fitted, codes)
    pair = games.first * games.players + games.second
    totals = np.bincount(pair, games.counts, games.players**2)
    rows = [np.zeros((0, games.players), np.int32)]
    for cluster in range(counts.shape[0]):
        alone = counts[[cluster]].toarray()[0]
        left = totals - np.bincount(pair, alone, games.players**2)
        if ((left == 0) & (totals > 0)).any():
            graph = sparse.csr_array(left.reshape(games.players, games.players))
            rows.append(csgraph.connected_components(graph, directed=False)[1][None])
    return np.concatenate(rows)


def _cluster_counts(fitted: Fit, codes: Codes) -> sparse.csr_array:
    """[G, C]: games of each kind in each cluster."""
    shape = (int(codes.max()) + 1, len(fitted.games.first))
    ones = np.ones(len(codes))
    return sparse.csr_array((ones, (codes, fitted.games.kind)), shape=shape)


def _jackknife(fitted: Fit, codes: Codes) -> Array:
    """(G−1)/G Σ_g d_g d_gᵀ, where d_g is the Newton step to the estimate without cluster g."""
    design, beta = fitted.design, fitted.beta
    counts = _cluster_counts(fitted, codes)
    scores = _scores(fitted, counts)
    clusters = scores.shape[0]
    steps = np.empty_like(scores)
    for cluster in range(clusters):
        alone = counts[[cluster]].toarray()[0]
        without = fitted.information - design.information(beta, alone)
        steps[cluster] = np.linalg.solve(without, scores[cluster])
    return np.asarray((clusters - 1) / clusters * steps.T @ steps)


def _sandwich(fitted: Fit, codes: Codes) -> Array:
    """H⁻¹ (Σ_g s_g s_gᵀ) H⁻¹, uncorrected: for the many small cells of two crossed ways."""
    scores = _scores(fitted, _cluster_counts(fitted, codes))
    steps = np.linalg.solve(fitted.information, scores.T)
    return np.asarray(steps @ steps.T)


def _scores(fitted: Fit, counts: sparse.csr_array) -> Array:
    """[G, p]: gradients of the clusters' log-likelihoods, which add up to nothing.

    What the ridge takes is taken from each by its size, so that equal clusters do not vary.
    """
    scores = counts @ fitted.design.scores(fitted.beta)
    sizes = counts.sum(axis=1)
    return np.asarray(scores - np.outer(sizes / sizes.sum(), scores.sum(axis=0)))
