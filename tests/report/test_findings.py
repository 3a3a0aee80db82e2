import numpy as np

from hark.evaluation.calibration import Calibration, calibration, gap_calibration
from hark.evaluation.intervals import Estimate, exact
from hark.evaluation.policies import PolicyEvaluation
from hark.evaluation.reward_curve import SquareRootFit
from hark.evaluation.winrate import WinRate
from hark.report import findings


def row(name: str, value: float, low: float, high: float) -> PolicyEvaluation:
    estimate = Estimate(value=value, low=low, high=high, n=100, clusters=100)
    return PolicyEvaluation(
        name=name, win_rate=WinRate(estimate=estimate, wins=0, ties=0, losses=0)
    )


def fit(r_squared: float, slope: float = 1.0) -> SquareRootFit:
    return SquareRootFit(
        slope=slope, intercept=0.0, r_squared=r_squared, r_squared_of_divergence=0.5, points=9
    )


def test_a_win_is_claimed_only_where_the_interval_excludes_a_coin_toss():
    assert (
        findings.best_win_rate([row("PPO", 0.63, 0.57, 0.69)], baseline="SFT")
        == "PPO is preferred to SFT on 63 % of prompts (57 to 69 %)"
    )
    assert "not clearly" in findings.best_win_rate(
        [row("PPO", 0.53, 0.47, 0.59)], baseline="SFT"
    ).replace("No policy is clearly", "not clearly")
    assert (
        findings.best_win_rate([row("PPO", 0.3, 0.2, 0.4)], baseline="SFT")
        == "No policy is preferred to SFT"
    )
    assert findings.best_win_rate([], baseline="SFT") == "No policy was compared with SFT"


def test_the_alignment_tax_names_the_costliest_policy_and_its_counterpart():
    rows = [
        PolicyEvaluation(name=name, language_loss=exact(loss))
        for name, loss in (("SFT", 3.5), ("PPO", 3.9), ("PPO-ptx", 3.45))
    ]
    assert (
        findings.alignment_tax(rows, reference="SFT", counterpart="PPO-ptx")
        == "PPO costs 0.40 nats a token on plain text over SFT; PPO-ptx −0.05"
    )
    assert findings.alignment_tax(rows[::2], reference="SFT") == (
        "No policy does worse than SFT on plain text"
    )
    assert findings.alignment_tax(rows, reference="base") == "Loss on held-out text"


def test_the_square_root_law_is_claimed_only_where_it_fits():
    assert findings.square_root_law({"a": fit(0.97), "b": fit(0.9)}) == (
        "Reward grows about linearly with √KL (R² 0.90 to 0.97)"
    )
    assert "loosely" in findings.square_root_law({"a": fit(0.5)})
    assert "did not raise" in findings.square_root_law({"a": fit(0.9, slope=-1.0)})
    assert findings.square_root_law({"a": None}) == "Reward against √KL"


def test_the_rise_of_reward_compares_the_first_tenth_with_the_last():
    # 20 values: the mean of 0, 1 is 0.5, that of 18, 19 is 18.5.
    assert findings.reward_rose({"PPO": list(range(20))}) == "Reward over training: PPO +18.00"
    assert findings.reward_rose({"PPO": [1.0]}) == "Reward and KL over training"


def test_calibration_is_faulted_only_beyond_what_chance_would_show():
    generator = np.random.default_rng(0)
    gaps = generator.normal(scale=2, size=4000)

    def measured(temperature: float) -> Calibration:
        labels = generator.random(4000) < 1 / (1 + np.exp(-gaps / temperature))
        return gap_calibration(gaps, labels, resamples=200)

    assert findings.calibration(measured(1.0)).startswith("No sign that predicted preferences")
    assert "too sure of itself" in findings.calibration(measured(3.0))
    assert "not sure enough" in findings.calibration(measured(0.3))
    assert findings.calibration(calibration([], [])).startswith("There were no pairs")
