"""Who the simulated labelers are.

| kind | likes | reads |
|---|---|---|
| careful | by the gold grade with noise and a taste of their own | all |
| biased | the same, and what stands first, and what is long | all |
| guesser | by lot | all, or seems to |
| spammer | what stands first | nothing |
| speeder | as careful with thrice the noise | at three times what anybody can read |
| paster | as careful; what they write is pasted | all |
| abandoner | as careful; walks off and comes back too late, or not at all | all |

Likings are those of `playground.labelers`; everything else is drawn by (seed, labeler, what was
shown), never by the time of the day or the order in which items come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from hark.data.records import Dialogue
from hark.errors import SettingsError
from hark.loop.simulation.draws import gumbel, lognormal, uniform
from hark.playground.labelers import LabelerPopulation, LabelerSettings
from hark.settings import Settings

Kind = Literal["careful", "biased", "guesser", "spammer", "speeder", "paster", "abandoner"]
Share = Annotated[float, Field(ge=0, le=1)]

SUSPECT: Final[dict[Kind, frozenset[str]]] = {
    "spammer": frozenset({"speed", "one side"}),
    "speeder": frozenset({"speed"}),
    "paster": frozenset({"pasting"}),
}
"""What an application that watches should say of whom; of all others, nothing."""
READING: Final = 20.0
"""Characters a second, of most."""
SPEEDING: Final = 200.0
"""The same, of those who do not read."""
BASE_SECONDS: Final = 2.0
"""To look at a page and to choose."""


class CrowdSettings(Settings):
    """The dials of a population; what is left over is careful."""

    labelers: Annotated[int, Field(ge=1)] = 50
    """How many."""
    seed: int = 0
    """Another seed is other people."""
    noise: Annotated[float, Field(ge=0)] = 0.118
    """Of a careful labeler: the Bradley–Terry temperature, in units of the grade (0 to 1)."""
    biased: Share = 0.1
    """Share who like what is first, and long."""
    guessers: Share = 0.04
    """Share who choose by lot."""
    spammers: Share = 0.06
    """Share who choose what is first, unread."""
    speeders: Share = 0.06
    """Share who hardly read."""
    pasters: Share = 0.04
    """Share whose writing is pasted."""
    abandoners: Share = 0.1
    """Share who walk off from items."""

    @model_validator(mode="after")
    def _leaves_room(self) -> CrowdSettings:
        if sum(self.shares.values()) > 1 + 1e-9:
            raise SettingsError(
                f"the shares of labelers add up to {sum(self.shares.values()):.2f}; "
                "1 is all of them"
            )
        return self

    @property
    def shares(self) -> dict[Kind, float]:
        """Of each kind but the careful."""
        return {
            "biased": self.biased,
            "guesser": self.guessers,
            "spammer": self.spammers,
            "speeder": self.speeders,
            "paster": self.pasters,
            "abandoner": self.abandoners,
        }


@dataclass(frozen=True, kw_only=True)
class Character:
    """One simulated labeler."""

    seed: int
    index: int
    kind: Kind
    population: LabelerPopulation
    """Of which it is the member `index`."""

    @property
    def name(self) -> str:
        """The same for the same seed."""
        return f"simulated-{self.seed}-{self.index:03d}"

    @cached_property
    def tie_threshold(self) -> float:
        """Likings no further apart are a tie."""
        return self.population.settings.tie_threshold

    def likes(self, prompt: Dialogue, response: str, place: int) -> float:
        """How much they like a response that stands at `place` on the screen, 0 to 1 or so."""
        if self.kind == "spammer":
            return 1.0 - place
        if self.kind == "guesser":
            return self.draw("guess", prompt, response)
        return self.population.liking(self.index, prompt, response, place)

    def likes_as(self, quality: float, place: int, *shown: object) -> float:
        """The same of something that the playground's grade does not know, of known quality."""
        if self.kind == "spammer":
            return 1.0 - place
        if self.kind == "guesser":
            return self.draw("guess", *shown)
        settings = self.population.settings
        noise = settings.noise * gumbel(self.seed, self.name, "taste", *shown)
        return quality + settings.position_bias * (place == 0) + noise

    def draw(self, purpose: str, *shown: object) -> float:
        """A number in (0, 1) of this labeler for what was shown."""
        return uniform(self.seed, self.name, purpose, *shown)

    def happens(self, share: float, purpose: str, *shown: object) -> bool:
        """Whether something happens that happens to a share of what is shown."""
        return self.draw(purpose, *shown) < share

    def consents(self, category: str) -> bool:
        """Three in four agree to see items of a category."""
        return self.happens(0.75, "consent", category)

    def skips(self, *shown: object) -> bool:
        """One in fifty is too much for them; nobody skips who does not read."""
        return self.kind not in ("spammer", "speeder") and self.happens(0.02, "skip", *shown)

    def walks_off(self, *shown: object) -> bool:
        """Whether they leave an item for so long that it may go back."""
        return self.kind == "abandoner" and self.happens(0.25, "walk off", *shown)

    def sends_twice(self, *shown: object) -> bool:
        """An impatient double click."""
        return self.happens(0.05, "double", *shown)

    def seconds_for(self, characters: int, *shown: object) -> float:
        """How long they look at what has so many characters to read or write."""
        hurried = self.kind in ("spammer", "speeder")
        base = 0.3 if hurried else BASE_SECONDS
        mean = base + characters / (SPEEDING if hurried else READING)
        return mean * lognormal(0.3, self.seed, self.name, "pace", *shown)


def crowd(settings: CrowdSettings) -> tuple[Character, ...]:
    """The labelers of a population; which of them is what is drawn by lot."""
    kinds = _kinds(settings)
    populations = {kind: LabelerPopulation(_tastes(settings, kind)) for kind in set(kinds)}
    return tuple(
        Character(seed=settings.seed, index=index, kind=kind, population=populations[kind])
        for index, kind in enumerate(kinds)
    )


def _kinds(settings: CrowdSettings) -> Sequence[Kind]:
    count = settings.labelers
    kinds: list[Kind] = []
    for kind, share in settings.shares.items():
        kinds += [kind] * round(share * count)
    kinds = (kinds + ["careful"] * count)[:count]
    lots = sorted(range(count), key=lambda index: uniform(settings.seed, "kind", index))
    drawn: list[Kind] = ["careful"] * count
    for place, kind in zip(lots, kinds, strict=True):
        drawn[place] = kind
    return drawn


def _tastes(settings: CrowdSettings, kind: Kind) -> LabelerSettings:
    biased = kind == "biased"
    return LabelerSettings(
        labelers=settings.labelers,
        noise=settings.noise * (3 if kind == "speeder" else 1),
        position_bias=0.15 if biased else 0.0,
        length_bias=0.05 if biased else 0.0,
        seed=settings.seed,
    )
