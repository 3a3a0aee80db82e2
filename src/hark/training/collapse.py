"""Signs that a PPO run is going wrong, each with its likely cause and what to change (pure).

Every sign is a function of the metrics so far. The loop shows each once a run and keeps it in the
results; nothing here changes training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

Metrics = Mapping[str, float]
"""One step's metrics by the names of docs/metrics.md."""

WATCHED = (
    "score", "kl", "entropy", "response_tokens", "incomplete_share", "repetition",
    "value_explained_variance",
)  # fmt: skip
"""The metrics that the signs read; the loop keeps these of every step."""

WINDOW = 5
"""Steps over which a metric is averaged, so that one odd step raises no alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One sign, in words for the person who watches the run."""

    sign: str
    """A short name, the same every time."""
    message: str
    """What was seen, the likely cause, and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Beyond these a sign is raised."""

    kl: float = 50.0
    """Nats per sequence."""
    negative_kl: float = -0.5
    """Nats per sequence; KL cannot be negative, its estimate only by chance and a little."""
    entropy_share: float = 0.25
    """Of the entropy at the start."""
    length_share: float = 0.95
    """Of the most tokens a response may have, while most responses are cut."""
    shortest: float = 2.0
    """Tokens."""
    repetition: float = 0.3
    """Share of repeated 4-grams, when it was half of that or less at the start."""
    patience: int = 20
    """Steps a critic may explain nothing."""


def signs_of_collapse(
    history: Sequence[Metrics],
    *,
    max_response_tokens: int,
    kl_target: float | None = None,
    limits: Limits | None = None,
) -> list[Sign]:
    """The signs present after the newest step of `history` (oldest first)."""
    limits = limits or Limits()
    if kl_target is not None and kl_target * 3 > limits.kl:
        limits = replace(limits, kl=kl_target * 3)
    found = []
    for sign, look in SIGNS.items():
        message = look(_Watch(history), limits, max_response_tokens)
        if message is not None:
            found.append(Sign(sign=sign, message=message))
    return found


class _Watch:
    """Means of a metric over the first and the newest steps; None where too few steps have it."""

    def __init__(self, history: Sequence[Metrics]) -> None:
        self._history = history

    def values(self, name: str) -> list[float]:
        return [metrics[name] for metrics in self._history if name in metrics]

    def start(self, name: str) -> float | None:
        values = self.values(name)
        # Start and newest must not overlap, or a change could not be seen.
        return fmean(values[:WINDOW]) if len(values) >= 2 * WINDOW else None

    def newest(self, name: str) -> float | None:
        values = self.values(name)
        return fmean(values[-WINDOW:]) if len(values) >= WINDOW else None


def _negative_kl(watch: _Watch, limits: Limits, _: int) -> str | None:
    kl = watch.newest("kl")
    if kl is None or kl >= limits.negative_kl:
        return None
    return (
        f"KL is {kl:.2f} nats per sequence over the last {WINDOW} steps, and a true KL cannot be "
        "negative: the log-probabilities of sampling and of training disagree. Set "
        "recompute_behaviour_logprobs and compare; if min_response_tokens or stop is set, the end "
        "token may be forbidden in one of the two only"
    )


def _kl_explosion(watch: _Watch, limits: Limits, _: int) -> str | None:
    kl = watch.newest("kl")
    if kl is None or kl <= limits.kl:
        return None
    return (
        f"KL reached {kl:.1f} nats per sequence (limit {limits.kl:g}): the policy has left the "
        "region where the preference model was trained. Raise kl_coefficient, set kl_target, or "
        "lower optimizer.learning_rate"
    )


def _reward_hacking(watch: _Watch, limits: Limits, _: int) -> str | None:
    start, score = watch.start("score"), watch.newest("score")
    kl_start, kl = watch.start("kl"), watch.newest("kl")
    if start is None or score is None or kl_start is None or kl is None:
        return None
    worse = [words for words, sign in _DEGENERATION if sign(watch, limits)]
    if score <= start or not (worse or kl > limits.kl):
        return None
    seen = worse or [f"KL is {kl:.1f} nats per sequence"]
    return (
        f"the score rose from {start:.2f} to {score:.2f} while {' and '.join(seen)}: probably a "
        "loophole of the preference model, not better responses. Read the samples; raise "
        "kl_coefficient, stop earlier, or train the preference model on samples like these"
    )


def _entropy_collapse(watch: _Watch, limits: Limits, _: int) -> str | None:
    if not _entropy_fell(watch, limits):
        return None
    return (
        f"entropy fell from {watch.start('entropy'):.3f} to {watch.newest('entropy'):.3f} nats per "
        "token: the policy says nearly the same every time. Raise kl_coefficient, lower "
        "optimizer.learning_rate, or use fewer inner_epochs"
    )


def _running_to_the_limit(watch: _Watch, limits: Limits, max_response_tokens: int) -> str | None:
    length, cut = watch.newest("response_tokens"), watch.newest("incomplete_share")
    cut_at_start = watch.start("incomplete_share")
    if length is None or cut is None or cut_at_start is None:
        return None
    if length < limits.length_share * max_response_tokens or cut < 0.5 or cut_at_start > cut / 2:
        return None
    return (
        f"responses now have {length:.0f} of {max_response_tokens} tokens and {100 * cut:.0f} % do "
        f"not end (at the start {100 * cut_at_start:.0f} %): the score may pay for length, or a "
        "cut response may score above a finished one. Compare incomplete_score with the scores, "
        "use incomplete_responses 'subtract', or raise kl_coefficient"
    )


def _vanishing(watch: _Watch, limits: Limits, _: int) -> str | None:
    start, length = watch.start("response_tokens"), watch.newest("response_tokens")
    if start is None or length is None or length > limits.shortest or start < 2 * limits.shortest:
        return None
    return (
        f"responses shrank from {start:.0f} to {length:.1f} tokens: ending at once escapes the KL "
        "penalty, or the scorer likes empty answers. Lower kl_coefficient, set "
        "min_response_tokens, or look at what the scorer gives an empty response"
    )


def _repeating(watch: _Watch, limits: Limits, _: int) -> str | None:
    if not _repetition_rose(watch, limits):
        return None
    return (
        f"{100 * (watch.newest('repetition') or 0):.0f} % of 4-grams repeat an earlier one of "
        "their response: the policy loops. Raise kl_coefficient, lower optimizer.learning_rate, "
        "or add pretraining_data"
    )


def _idle_critic(watch: _Watch, limits: Limits, _: int) -> str | None:
    explained = watch.values("value_explained_variance")
    if len(explained) < limits.patience or max(explained[-limits.patience :]) >= 0:
        return None
    return (
        f"the critic explains less than a constant would for {limits.patience} steps (explained "
        f"variance {explained[-1]:.2f}): raise value_learning_rate, widen value_clip_range where "
        "scores are large, or give a value_model on the scale of the scores"
    )


def _entropy_fell(watch: _Watch, limits: Limits) -> bool:
    start, newest = watch.start("entropy"), watch.newest("entropy")
    return start is not None and newest is not None and newest < limits.entropy_share * start


def _repetition_rose(watch: _Watch, limits: Limits) -> bool:
    start, newest = watch.start("repetition"), watch.newest("repetition")
    if start is None or newest is None:
        return False
    return newest > limits.repetition and start <= newest / 2


_DEGENERATION: tuple[tuple[str, Callable[[_Watch, Limits], bool]], ...] = (
    ("entropy collapsed", _entropy_fell),
    ("responses began to repeat themselves", _repetition_rose),
)

SIGNS: dict[str, Callable[[_Watch, Limits, int], str | None]] = {
    "negative_kl": _negative_kl,
    "kl_explosion": _kl_explosion,
    "reward_hacking": _reward_hacking,
    "entropy_collapse": _entropy_collapse,
    "length_at_limit": _running_to_the_limit,
    "length_vanishing": _vanishing,
    "repetition": _repeating,
    "idle_critic": _idle_critic,
}
"""Every sign by name; each returns what to say, or None."""
