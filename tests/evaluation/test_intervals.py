import math

import numpy as np
import pytest

from hark.errors import HarkError
from hark.evaluation import intervals
from hark.evaluation.intervals import (
    Estimate,
    cluster_codes,
    clustered_mean,
    clustered_rate,
    proportion,
    require_finite,
)


def test_wilson_interval_worked_by_hand():
    # 8 of 10, z = 1.959964: centre = (0.8 + 0.192073) / 1.384146 = 0.716740,
    # half = 1.959964 / 1.384146 * sqrt(0.016 + 0.0096036) = 0.226577.
    estimate = proportion(8, 10)
    assert estimate.value == 0.8
    assert estimate.low == pytest.approx(0.490162, abs=1e-5)
    assert estimate.high == pytest.approx(0.943318, abs=1e-5)


def test_wilson_interval_of_certain_outcomes_is_not_a_point():
    nothing, everything = proportion(0, 20), proportion(20, 20)
    assert nothing.low == 0.0
    assert everything.high == 1.0
    # z² / (n + z²) = 3.841459 / 23.841459
    assert nothing.high == pytest.approx(0.161125, abs=1e-5)
    assert everything.low == pytest.approx(1 - 0.161125, abs=1e-5)


def test_undefined_is_a_named_state_and_never_zero():
    empty = clustered_mean([])
    assert (empty.value, empty.low, empty.high) == (None, None, None)
    assert empty.state == "no observations"
    assert proportion(0, 0).state == "no observations"
    single = clustered_mean([1.0, 2.0, 3.0], clusters=[["a", "a", "a"]])
    assert (single.value, single.low, single.state) == (2.0, None, "one cluster")
    constant = clustered_mean([0.5, 0.5, 0.5])
    assert (constant.value, constant.high, constant.state) == (0.5, None, "no variation")
    # Every cluster has the same mean though its members differ: a bootstrap sees no variation.
    balanced = clustered_mean([1, 0, 1, 0], clusters=[["a", "a", "b", "b"]])
    assert (balanced.value, balanced.state) == (0.5, "no variation")
    assert not balanced.has_interval


def test_a_perfect_rate_falls_back_on_wilson_with_one_trial_for_each_cluster():
    estimate = clustered_rate([1.0] * 40, clusters=[[n // 2 for n in range(40)]])
    assert estimate.value == 1.0
    assert estimate.clusters == 20
    assert estimate.low == pytest.approx(proportion(20, 20).low)
    assert estimate.high == 1.0


def test_same_seed_same_interval():
    values = np.random.default_rng(0).normal(size=50)
    assert clustered_mean(values, seed=3) == clustered_mean(values, seed=3)
    assert clustered_mean(values, seed=3) != clustered_mean(values, seed=4)


def test_memory_blocks_keep_the_number_of_resamples(monkeypatch):
    values = np.random.default_rng(0).normal(size=50)
    whole = clustered_mean(values)
    monkeypatch.setattr(intervals, "BLOCK", 1000)
    blocks = list(
        intervals.resampled_sums(np.ones((50, 1)), [np.arange(50)], resamples=2000, seed=0)
    )
    assert [len(block) for block in blocks] == [20] * 100
    assert clustered_mean(values) == whole


def test_weights_make_a_mean_over_tokens():
    # (1 * 3 + 5 * 1) / 4 = 2
    assert clustered_mean([1.0, 5.0], weights=[3, 1]).value == pytest.approx(2.0)


def test_non_finite_values_are_refused_with_count_and_place():
    with pytest.raises(
        HarkError, match=r"2 of 4 scores are not finite, the first at index 1 \(nan"
    ):
        require_finite([1.0, math.nan, 2.0, math.inf], what="scores")


def test_interval_matches_the_normal_formula_for_many_independent_values():
    values = np.random.default_rng(1).normal(loc=2.0, scale=3.0, size=4000)
    estimate = clustered_mean(values)
    half = 1.959964 * values.std() / math.sqrt(4000)
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.08)


def test_ways_of_clustering_that_say_nothing_are_left_out():
    prompts, everyone, labelers = [0, 1, 2, 3], ["a"] * 4, ["a", "a", "b", "b"]
    assert [codes.tolist() for codes in cluster_codes([prompts, everyone], n=4)] == [[0, 1, 2, 3]]
    # Each prompt was judged by one labeler, so labelers are the coarser way and alone remain.
    assert [codes.tolist() for codes in cluster_codes([prompts, labelers], n=4)] == [[0, 0, 1, 1]]
    assert [codes.tolist() for codes in cluster_codes([labelers, prompts], n=4)] == [[0, 0, 1, 1]]
    crossed = cluster_codes([["p", "p", "q", "q"], ["a", "b", "a", "b"]], n=4)
    assert len(crossed) == 2


def test_a_cluster_name_is_needed_for_each_value():
    with pytest.raises(ValueError, match="2 cluster names for 3 values"):
        clustered_mean([1, 2, 3], clusters=[["a", "b"]])


def test_pigeonhole_sums_count_a_cell_by_both_its_clusters():
    # One observation in each cell of a 2 x 2 table: a resample that draws row 0 twice and column 1
    # twice holds cell (0, 1) four times; so every sum is a product of the two draws.
    first, second = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    columns = np.stack([np.array([1.0, 10.0, 100.0, 1000.0]), np.ones(4)], axis=1)
    sums = np.concatenate(
        list(intervals.resampled_sums(columns, [first, second], resamples=400, seed=0))
    )
    assert set(sums[:, 1]) == {4.0}  # (2 draws of rows) x (2 draws of columns)
    seen = {tuple(sorted({1.0, 10.0, 100.0, 1000.0} & {total / 4})) for total in sums[:, 0]}
    assert seen >= {(1.0,), (10.0,), (100.0,), (1000.0,)}
    assert 1111.0 in sums[:, 0]


def _simulated(generator: np.random.Generator, labelers: int, votes: int) -> tuple[list, list]:
    """Votes by labelers with leanings of their own (SD 0.8 logits, truth of the mean: one half)."""
    leaning = np.repeat(generator.normal(scale=0.8, size=labelers), votes)
    outcomes = generator.random(labelers * votes) < 1 / (1 + np.exp(-leaning))
    return outcomes.astype(float).tolist(), np.repeat(np.arange(labelers), votes).tolist()


def test_stated_intervals_cover_the_planted_truth_where_independent_ones_do_not():
    generator = np.random.default_rng(7)
    trials, clustered, independent = 400, 0, 0
    for trial in range(trials):
        outcomes, labelers = _simulated(generator, 20, 50)
        by_labeler = clustered_mean(outcomes, clusters=[labelers], resamples=400, seed=trial)
        alone = clustered_mean(outcomes, resamples=100, seed=trial)
        clustered += by_labeler.low <= 0.5 <= by_labeler.high
        independent += alone.low <= 0.5 <= alone.high
    # 1500 trials put the coverage at 94.2 %; three standard errors of 400 trials are 3.4 points.
    assert 0.908 <= clustered / trials <= 0.98
    assert independent / trials < 0.70


def test_crossed_labelers_and_prompts_are_covered_by_the_pigeonhole_bootstrap():
    generator = np.random.default_rng(8)
    trials, crossed, prompts_only = 150, 0, 0
    prompts, labelers = np.divmod(np.arange(12 * 30), 12)
    ways = [prompts.tolist(), labelers.tolist()]
    for trial in range(trials):
        effects = generator.normal(size=30)[prompts] + generator.normal(size=12)[labelers]
        values = effects + generator.normal(size=len(prompts))
        both = clustered_mean(values, clusters=ways, resamples=400, seed=trial)
        one = clustered_mean(values, clusters=ways[:1], resamples=200, seed=trial)
        crossed += both.low <= 0.0 <= both.high
        prompts_only += one.low <= 0.0 <= one.high
    assert 0.91 <= crossed / trials <= 0.995
    assert prompts_only / trials < 0.85


def test_estimates_survive_json_and_say_when_they_are_apart():
    low = Estimate(value=0.4, low=0.3, high=0.5, n=9, clusters=9)
    high = Estimate(value=0.7, low=0.6, high=0.8, n=9, clusters=9)
    assert Estimate.from_json(low.to_json()) == low
    assert low.apart_from(high)
    assert high.apart_from(low)
    assert not low.apart_from(low)
    assert not low.apart_from(clustered_mean([]))
