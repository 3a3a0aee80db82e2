"""A population of labelers who see the gold grade through noise, taste, bias and haste.

A labeler's liking of a reply is u = (1 − w)·helpfulness + w·harmlessness + biases + τ·G with their
own weight w and G ~ Gumbel(0, 1), so that two replies are preferred as Bradley and Terry have it,
P(a ≻ b) = σ((u_a − u_b)/τ), and K replies are ranked as Plackett and Luce have it.

Randomness is a hash of (seed, labeler, prompt, reply): it does not depend on the order of calls or
of replies, and one labeler who sees the same reply twice likes it equally both times.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from pydantic import Field

from hark.data.records import Comparison, Dialogue
from hark.errors import SettingsError
from hark.playground.gold import grade
from hark.settings import Settings

Labeler = Callable[[Comparison], Comparison]

STRENGTH_STEPS = (0.1, 0.25, 0.5)
"""A preference has strength 1 plus the number of these that the gap of likings exceeds."""
LARGEST_NOISE = 10.0


class LabelerSettings(Settings):
    """The dials of the population."""

    labelers: int = Field(default=20, ge=1)
    """How many labelers there are."""
    noise: float = Field(default=0.118, ge=0.0)
    """τ, the Bradley–Terry temperature in units of the grade (0 to 1); 0: no noise."""
    tie_threshold: float = Field(default=0.01, ge=0.0)
    """Replies whose likings differ by no more than this are tied; the unit is the grade's."""
    harmlessness_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """w, the weight of harmlessness against helpfulness, on average over labelers."""
    harmlessness_weight_spread: float = Field(default=0.1, ge=0.0, le=0.5)
    """Labelers' weights lie evenly within this distance of the average."""
    length_bias: float = 0.0
    """Added to the liking for every ten words of a reply."""
    position_bias: float = 0.0
    """Added to the liking of the reply shown first."""
    spammer_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of labelers who rank without reading."""
    seed: int = 0
    """Another seed is another population."""


GOLD_SETTINGS = LabelerSettings(
    labelers=1, noise=0.0, tie_threshold=0.0, harmlessness_weight_spread=0.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelerProfile:
    """One member of the population."""

    name: str
    harmlessness_weight: float
    spammer: bool


@lru_cache(maxsize=200_000)
def _uniform(seed: int, purpose: str, prompt: Dialogue, said: str) -> float:
    """A number in (0, 1) that is a function of its arguments."""
    key = repr((seed, purpose, [(m.role, m.content) for m in prompt], said)).encode()
    whole = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big")
    return (whole + 0.5) / 2**56


def _gumbel(seed: int, purpose: str, prompt: Dialogue, said: str) -> float:
    return -math.log(-math.log(_uniform(seed, purpose, prompt, said)))


class LabelerPopulation:
    """Labelers by number; the population itself is a `Labeler` and picks one by a hash."""

    def __init__(self, settings: LabelerSettings | None = None) -> None:
        self.settings = settings or LabelerSettings()
        count, spread = self.settings.labelers, self.settings.harmlessness_weight_spread
        spammers = round(self.settings.spammer_share * count)
        self.profiles = tuple(
            LabelerProfile(
                name=f"labeler-{self.settings.seed}-{i:02d}",
                harmlessness_weight=min(
                    1.0,
                    max(
                        0.0,
                        self.settings.harmlessness_weight
                        + (spread * (2 * i / (count - 1) - 1) if count > 1 else 0.0),
                    ),
                ),
                spammer=(i * 7) % count < spammers if count % 7 else i < spammers,
            )
            for i in range(count)
        )

    def liking(self, index: int, prompt: Dialogue, response: str, position: int) -> float:
        """How much labeler `index` likes a response shown at `position` (0 is first)."""
        settings, profile = self.settings, self.profiles[index]
        draw = _gumbel(settings.seed, profile.name, prompt, response)
        if profile.spammer:
            return draw
        graded = grade(prompt, response)
        weight = profile.harmlessness_weight
        liking = (1 - weight) * graded.helpfulness + weight * graded.harmlessness
        liking += settings.length_bias * len(response.split()) / 10
        liking += settings.position_bias * (position == 0)
        return liking + settings.noise * draw

    def judge(self, comparison: Comparison, labeler: int | None = None) -> Comparison:
        """The comparison with ranks, strength and the labeler's name.

        A judgement already there is replaced. Without `labeler`, a hash of prompt and responses
        picks one. All tied has strength 0.
        """
        index = self._assigned(comparison) if labeler is None else labeler
        likings = [
            self.liking(index, comparison.prompt, response, position)
            for position, response in enumerate(comparison.responses)
        ]
        ranks = rank(likings, self.settings.tie_threshold)
        gap = max(likings) - min(likings)
        strength = 1.0 + sum(gap > step for step in STRENGTH_STEPS) if len(set(ranks)) > 1 else 0.0
        return replace(
            comparison,
            ranks=ranks,
            probability=None,
            strength=strength,
            labeler=self.profiles[index].name,
        )

    def labeler(self, index: int) -> Labeler:
        """One member as a function from comparison to judged comparison."""
        return lambda comparison: self.judge(comparison, index)

    def __call__(self, comparison: Comparison) -> Comparison:
        """Judge by the labeler that a hash assigns."""
        return self.judge(comparison)

    def _assigned(self, comparison: Comparison) -> int:
        said = "\n".join(sorted(comparison.responses))
        drawn = _uniform(self.settings.seed, "assignment", comparison.prompt, said)
        return int(drawn * len(self.profiles))


def rank(likings: Sequence[float], tie_threshold: float) -> tuple[int, ...]:
    """Ranks from 1; replies within `tie_threshold` of the best of their group share its rank."""
    order = sorted(range(len(likings)), key=lambda i: -likings[i])
    ranks = [0] * len(likings)
    best_of_group, current = math.inf, 0
    for place, i in enumerate(order, start=1):
        if best_of_group - likings[i] > tie_threshold:
            best_of_group, current = likings[i], place
        ranks[i] = current
    return tuple(ranks)


def gold_judge(comparison: Comparison) -> Comparison:
    """The judgement of the gold grade itself, without noise or bias."""
    return replace(LabelerPopulation(GOLD_SETTINGS).judge(comparison, 0), labeler="gold")


def agreement(population: LabelerPopulation, comparisons: Sequence[Comparison]) -> float:
    """How often two random labelers of the population agree on a random pair of responses.

    Agreement is 1 where both prefer the same response or both tie, 1/2 where one of them ties.
    Needs two or more labelers.
    """
    labelers = range(len(population.profiles))
    if len(labelers) < 2:
        raise SettingsError("agreement needs 2 or more labelers, the population has 1")
    scores = []
    for comparison in comparisons:
        rankings = [population.judge(comparison, index).ranks or () for index in labelers]
        for i, j in itertools.combinations(range(len(comparison.responses)), 2):
            first = sum(ranks[i] < ranks[j] for ranks in rankings)
            tied = sum(ranks[i] == ranks[j] for ranks in rankings)
            second = len(labelers) - first - tied
            same = math.comb(first, 2) + math.comb(second, 2) + math.comb(tied, 2)
            scores.append((same + 0.5 * tied * (first + second)) / math.comb(len(labelers), 2))
    return sum(scores) / len(scores)


def noise_for_agreement(
    target: float, comparisons: Sequence[Comparison], settings: LabelerSettings | None = None
) -> float:
    """The noise τ at which the population agrees with itself at the rate `target`.

    Bisection to 1/1000 of the rate; the other settings are kept.
    Raises: SettingsError where no noise gives that rate.
    """
    base = settings or LabelerSettings()

    def rate(noise: float) -> float:
        changed = base.model_copy(update={"noise": noise})
        return agreement(LabelerPopulation(changed), comparisons)

    low, high = 0.0, LARGEST_NOISE
    highest, lowest = rate(low), rate(high)
    if not lowest <= target <= highest:
        raise SettingsError(
            f"no noise gives agreement {target}: these comparisons allow {lowest:.3f} to "
            f"{highest:.3f}; ask for a rate between"
        )
    while True:
        middle = (low + high) / 2
        reached = rate(middle)
        if abs(reached - target) < 0.001 or high - low < 1e-6:
            return middle
        low, high = (middle, high) if reached > target else (low, middle)
