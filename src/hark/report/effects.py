"""What a study found of what a paper claims: one record an effect, and the page that lists them.

A verdict follows from an interval by a rule that was written down before the data were seen, never
from the number alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypedDict, get_args

from hark.evaluation.intervals import Estimate

Verdict = Literal["reproduced", "not reproduced", "cannot be seen"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One effect: what the paper says, what we did, what came out."""

    name: str
    """Short and unique in its replication."""
    paper: str
    """Paper and section, or figure."""
    claim: str
    """What the paper says, in a sentence."""
    setting: str
    """What we did: models, data, sizes, seeds."""
    data: str
    """Where the data come from: "playground", or what real data they are."""
    measured: str
    """What the number is, and its unit."""
    rule: str
    """When the effect counts as reproduced, fixed before the data were seen."""
    estimate: Estimate
    seeds: int
    """Independent trainings behind it; 0 where nothing is trained."""
    verdict: Verdict
    reason: str
    """Why this verdict: what the interval says, or why it cannot be seen at this scale."""
    figure: str | None = None
    """File name in the study's run directory."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{**values, "estimate": Estimate.from_json(values["estimate"])})


class Judged(TypedDict):
    """The fields of an effect that follow from its estimate and where it was to lie."""

    estimate: Estimate
    rule: str
    verdict: Verdict
    reason: str


def judged(
    estimate: Estimate, *, above: float = -math.inf, below: float = math.inf, further: str = ""
) -> Judged:
    """Reproduced if the whole interval is above and below, not if it is all outside.

    Where it is in and out, or there is none, the effect cannot be seen.
    above, below: the region, in the unit of the estimate, fixed before the data were seen.
    further: what else was found, in sentences, said behind the reason.
    """
    region, verdict = _region(above, below), _verdict(estimate, above, below)
    return Judged(
        estimate=estimate,
        rule=f"reproduced if the whole interval is {region}",
        verdict=verdict,
        reason=f"{_because(estimate, verdict, region)} {further}".rstrip(),
    )


def _verdict(estimate: Estimate, low: float, high: float) -> Verdict:
    ends = _ends(estimate)
    if ends is None:
        return "cannot be seen"
    if low < ends[0] and ends[1] < high:
        return "reproduced"
    return "not reproduced" if ends[1] < low or ends[0] > high else "cannot be seen"


def _region(low: float, high: float) -> str:
    assert -math.inf < low or high < math.inf, "a region has an end"
    if high == math.inf:
        return f"above {_end(low)}"
    if low == -math.inf:
        return f"below {_end(high)}"
    return f"within ±{_end(high)}" if low == -high else f"between {_end(low)} and {_end(high)}"


def _end(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _because(estimate: Estimate, verdict: Verdict, region: str) -> str:
    if _ends(estimate) is None:
        return f"There is no interval to judge by: {estimate.state}."
    point = estimate.low is None
    words: dict[Verdict, str] = {
        "reproduced": f"lies {region}" if point else f"lies wholly {region}",
        "not reproduced": f"does not lie {region}" if point else f"has no part {region}",
        "cannot be seen": f"is at the very edge of {region}" if point
        else f"is only partly {region}",
    }  # fmt: skip
    subject = f"The number, {estimate.state}," if point else "The interval"
    return f"{subject} {words[verdict]}."


def _ends(estimate: Estimate) -> tuple[float, float] | None:
    """The interval; a point where every seed gave the same number, or a formula gives it."""
    if estimate.low is not None and estimate.high is not None:
        return estimate.low, estimate.high
    if estimate.value is not None and estimate.state in ("no variation", "exact"):
        return estimate.value, estimate.value
    return None


def number(estimate: Estimate, *, digits: int = 3) -> str:
    """`0.731 (0.702 to 0.758)`, or why there is no interval or no number."""
    if estimate.value is None:
        return estimate.state
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f} ({estimate.state})"
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def overview(effects: Sequence[Effect]) -> str:
    """A Markdown table, one row an effect."""
    rows = ["| effect | data | number (95 % interval) | seeds | verdict |", "|---|---|---|---|---|"]
    rows += [
        f"| [{each.name}](#{anchor(each.name)}) | {each.data} | {number(each.estimate)} | "
        f"{each.seeds or '–'} | {each.verdict} |"
        for each in effects
    ]
    return "\n".join(rows)


def section(effect: Effect, *, figure: str | None) -> str:
    """One effect in full, as Markdown; `figure` is the path of its drawing from the page."""
    lines = [
        f"### {effect.name}",
        "",
        f"*Claim* ({effect.paper}): {effect.claim}",
        "",
        f"*Setting* ({effect.data}): {effect.setting}",
        "",
        f"*Measured*: {effect.measured}: **{number(effect.estimate)}**"
        + (f", {effect.seeds} seeds" if effect.seeds else ""),
        "",
        f"*Rule*: {effect.rule}",
        "",
        f"*Verdict*: **{effect.verdict}**. {effect.reason}",
    ]
    if figure:
        lines += ["", f"![{effect.name}]({figure})"]
    return "\n".join(lines)


def anchor(title: str) -> str:
    """The anchor that a heading gets on a code host: lower case, words joined by hyphens."""
    kept = "".join(char for char in title.lower() if char.isalnum() or char in " -_")
    return kept.replace(" ", "-")
