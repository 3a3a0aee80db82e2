from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hark.errors import SettingsError
from hark.models import sampling
from hark.models.sampling import (
    SamplingSettings,
    behaviour_logprobs,
    choose_tokens,
    draw,
    truncate,
    uniforms,
)


def splitmix64(bits: int) -> int:
    """The finaliser of Steele, Lea and Flood 2014 in integers of unlimited size."""
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
    return bits ^ (bits >> 31)


def uniform_in_integers(seed: int, sequence_id: int, position: int) -> float:
    step = 0x9E3779B97F4A7C15
    state = splitmix64((seed + step) % 2**64)
    state = splitmix64((state + (sequence_id + 1) * step) % 2**64)
    state = splitmix64((state + (position + 1) * step) % 2**64)
    return (state >> 11) / 2**53


def test_the_hash_is_splitmix64_with_its_published_first_output() -> None:
    # The reference generator seeded with 0 first gives 0xE220A8397B1DCDAF.
    assert splitmix64(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize("seed", [0, 7, -3, 2**63 + 5, 2**70])
def test_wrapping_tensor_arithmetic_equals_integers_without_overflow(seed: int) -> None:
    ids = torch.tensor([0, 1, 12345, 2**40 + 7, 2**62])
    drawn = uniforms(seed, ids[:, None], torch.arange(3))
    for row, sequence_id in enumerate(ids.tolist()):
        for position in range(3):
            expected = uniform_in_integers(seed, sequence_id, position)
            assert drawn[row, position].item() == expected


def test_uniforms_are_uniform_and_independent_of_one_another() -> None:
    drawn = uniforms(3, torch.arange(400)[:, None], torch.arange(250))
    count = drawn.numel()
    assert drawn.min() >= 0.0
    assert drawn.max() < 1.0
    # 99 degrees of freedom: chi-square has mean 99 and standard deviation sqrt(198) = 14.1.
    cells = torch.histc(drawn, bins=100, min=0.0, max=1.0)
    chi_square = float(((cells - count / 100) ** 2 / (count / 100)).sum())
    assert abs(chi_square - 99) < 4 * 14.1
    # Neighbours in position and in sequence, and other seeds, are uncorrelated: 4 standard errors.
    centred = drawn - 0.5
    other = uniforms(4, torch.arange(400)[:, None], torch.arange(250)) - 0.5
    for left, right in (
        (centred[:, 1:], centred[:, :-1]),
        (centred[1:], centred[:-1]),
        (centred, other),
    ):
        correlation = float((left * right).mean() / (1 / 12))
        assert abs(correlation) < 4 / math.sqrt(left.numel())


def test_draw_inverts_the_distribution_function() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.25, 0.25])
    # The distribution function is .5, .5, .75, 1: [0, .5) gives 0, [.5, .75) gives 2, the rest 3.
    uniform = torch.tensor([0.0, 0.4999, 0.5, 0.7499, 0.75, 1 - 2.0**-53], dtype=torch.float64)
    tokens = draw(probabilities.log().expand(6, 4), uniform)
    assert tokens.tolist() == [0, 0, 2, 2, 3, 3]


def test_a_leading_token_without_probability_is_never_drawn() -> None:
    logprobs = torch.tensor([[-math.inf, 0.0]])
    assert draw(logprobs, torch.zeros(1, dtype=torch.float64)).tolist() == [1]


def test_top_k_keeps_the_k_most_probable_and_ties_with_the_last() -> None:
    logprobs = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]]).log()
    kept = truncate(logprobs, top_k=2).isfinite()
    assert kept.tolist() == [[False, True, False, True], [True, True, True, True]]


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        # Ordered: .4 (token 1), .3 (token 3), .2 (token 2), .1 (token 0).
        (0.05, [1]),
        (0.39, [1]),
        (0.41, [1, 3]),
        (0.69, [1, 3]),
        (0.71, [1, 2, 3]),
        (0.95, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p: float, kept: list[int]) -> None:
    logprobs = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    truncated = truncate(logprobs, top_p=top_p)
    assert truncated[0].isfinite().nonzero().flatten().tolist() == kept
    assert torch.equal(truncated[0, kept], logprobs[0, kept])


def test_top_p_acts_on_what_top_k_left_renormalised() -> None:
    logprobs = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    # Of .4 and .3 the first holds 4/7 = .571: enough for .55, though it holds .4 of the whole.
    assert truncate(logprobs, top_k=2, top_p=0.55).isfinite().sum() == 1
    assert truncate(logprobs, top_p=0.55).isfinite().sum() == 2


def exact(logits: Tensor, settings: SamplingSettings) -> Tensor:
    logprobs = torch.log_softmax(logits.double() / settings.temperature, dim=-1)
    return torch.softmax(truncate(logprobs, top_k=settings.top_k, top_p=settings.top_p), dim=-1)


@pytest.mark.parametrize(
    "settings",
    [
        SamplingSettings(),
        SamplingSettings(temperature=0.7),
        SamplingSettings(temperature=1.5, top_p=0.8),
        SamplingSettings(top_k=5),
        SamplingSettings(temperature=0.5, top_k=9, top_p=0.9),
    ],
)
def test_frequencies_follow_the_exact_distribution(settings: SamplingSettings) -> None:
    draws = 20_000
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(1)) * 1.5
    uniform = uniforms(11, torch.arange(draws), torch.tensor(0))
    tokens, _ = choose_tokens(logits.expand(draws, -1), uniform, settings)
    probabilities = exact(logits, settings)[0]
    counts = torch.bincount(tokens, minlength=12)
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    expected = draws * probabilities[possible]
    chi_square = float(((counts[possible] - expected) ** 2 / expected).sum())
    freedom = int(possible.sum()) - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_logprobs_are_of_the_tempered_distribution_before_truncation() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    settings = SamplingSettings(temperature=0.5, top_k=1)
    tokens, logprobs = choose_tokens(logits, torch.tensor([0.9], dtype=torch.float64), settings)
    assert tokens.tolist() == [0]
    # Tempered logits 4, 2, 0: ln(e^4 / (e^4 + e^2 + 1)) = −ln(1 + e^−2 + e^−4) = −0.142932.
    assert logprobs.item() == pytest.approx(-0.142932, abs=1e-6)


def test_temperature_zero_takes_the_most_probable_with_logprobs_at_temperature_one() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    settings = SamplingSettings(temperature=0.0)
    tokens, logprobs = choose_tokens(logits, torch.tensor([0.99], dtype=torch.float64), settings)
    assert tokens.tolist() == [0]
    # −ln(1 + e^−1 + e^−2) = −0.407606.
    assert logprobs.item() == pytest.approx(-0.407606, abs=1e-6)


def test_forbidden_tokens_are_not_drawn_and_leave_logprobs_alone() -> None:
    logits = torch.tensor([[5.0, 1.0, 0.0]])
    is_forbidden = torch.tensor([[True, False, False]])
    uniform = torch.zeros(1, dtype=torch.float64)
    for temperature in (0.0, 1.0):
        settings = SamplingSettings(temperature=temperature)
        tokens, logprobs = choose_tokens(logits, uniform, settings, is_forbidden)
        assert tokens.tolist() == [1]
        assert torch.equal(logprobs, behaviour_logprobs(logits, 1.0)[:, 1])


def test_half_precision_logits_give_single_precision_logprobs() -> None:
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    logprobs = behaviour_logprobs(logits, 0.7)
    assert logprobs.dtype == torch.float32
    assert torch.allclose(logprobs.exp().sum(-1), torch.ones(2), atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_response_tokens": 0}, "max_response_tokens"),
        ({"max_response_tokens": 4, "min_response_tokens": 5}, "min_response_tokens 5"),
        ({"temperature": 0.0, "top_p": 0.9}, "would be ignored"),
        ({"temperature": 0.0, "top_k": 3}, "would be ignored"),
        ({"stop": ["\n", ""]}, "empty string"),
        ({"topp": 0.9}, "did you mean 'top_p'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SamplingSettings.parse(values)


def test_few_logits_at_a_time_draw_what_all_draw_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, uniform = torch.randn(11, 50), torch.rand(11, dtype=torch.float64)
    forbidden = torch.zeros(11, 50, dtype=torch.bool)
    forbidden[:, :20] = True
    for settings in (SamplingSettings(top_p=0.9, top_k=20), SamplingSettings(temperature=0.0)):
        whole = choose_tokens(logits, uniform, settings, forbidden)
        for most in (40, 100, 170):  # rows of 1, 2 and 3
            monkeypatch.setattr(sampling, "CPU_LOGITS", most)
            parts = choose_tokens(logits, uniform, settings, forbidden)
            assert all(torch.equal(*pair) for pair in zip(whole, parts, strict=True))
        monkeypatch.undo()
