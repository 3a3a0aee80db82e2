"""Ratings in pictures and words: Elo by several judges, the comparison matrix, Elo by scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from scipy import special

from hark.evaluation.elo import ANCHOR_ELO
from hark.evaluation.intervals import Estimate
from hark.evaluation.matchups import Matchup
from hark.evaluation.score_elo import ScoreElo
from hark.report.drawing import DASHES, INK, MARKERS, QUIET, Figure, canvas, colour, finish
from hark.report.run_record import RunRecord

FAMILYWISE = 0.05
"""Chance that any of a matrix's residuals is marked where all pairs fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedModels:
    """What one judge's votes say, read from results.json."""

    judge: str
    anchor: str
    elo: dict[str, Estimate]
    """Model → its Elo, the strongest first."""
    matchups: tuple[Matchup, ...]
    first_advantage: Estimate | None
    tie_odds: Estimate | None
    votes: int
    labelers: int
    primary: str | None
    """What was found in the comparison named beforehand."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> JudgedModels:
        """Of an entry of `judges`."""
        first, tie = (
            None if values[name] is None else Estimate.from_json(values[name])
            for name in ("first_advantage", "tie_odds")
        )
        return cls(
            judge=values["judge"],
            anchor=values["anchor"],
            elo={one["model"]: Estimate.from_json(one["elo"]) for one in values["ratings"]},
            matchups=tuple(Matchup.from_json(one) for one in values["matchups"]),
            first_advantage=first,
            tie_odds=tie,
            votes=values["votes"],
            labelers=values["labelers"],
            primary=values.get("primary", {}).get("finding"),
        )


def judges_of(run: RunRecord) -> list[JudgedModels]:
    """Everybody who judged in a run of `rate` or `tournament`; nobody in other runs."""
    return [JudgedModels.read(values) for values in run.results.get("judges", [])]


def predictions_of(run: RunRecord) -> dict[str, list[ScoreElo]]:
    """Preference model → what its scores predict, in a run of `tournament`."""
    return {
        one["preference_model"]: [ScoreElo.from_json(each) for each in one["ratings"]]
        for one in run.results.get("predictions", [])
    }


def rating_figures(run: RunRecord) -> Iterator[Figure]:
    """Elo by judge, a matrix for each judge, and Elo predicted beside Elo measured."""
    judges = judges_of(run)
    if not judges:
        return
    yield elo_figure(judges)
    for number, one in enumerate(judges):
        yield matrix_figure(one, name=f"matrix-{number}")
    measured = [one for one in judges if one.judge not in predictions_of(run)]
    for name, predicted in predictions_of(run).items():
        yield score_elo_figure(name, predicted, measured)


def rating_sentences(run: RunRecord) -> Iterator[str]:
    """The primary comparison first, then the strongest by each judge."""
    judges = judges_of(run)
    yield from (f"{one.judge}: {one.primary}" for one in judges if one.primary)
    yield from (f"{strongest(one)}." for one in judges)


def strongest(judged: JudgedModels) -> str:
    """Who leads by one judge, and by how much."""
    best, elo = next(iter(judged.elo.items()))
    if elo.value is None:
        return f"{judged.judge} has judged nobody"
    if best == judged.anchor:
        return f"{judged.judge} ranks {best}, the anchor, highest"
    ends = "" if elo.low is None else f" ({_gap(elo.low)} to {_gap(elo.high)})"
    return f"{judged.judge} ranks {best} highest, {_gap(elo.value)} Elo{ends} over {judged.anchor}"


def elo_figure(judges: Sequence[JudgedModels]) -> Figure:
    """A row for each model, a dot and whisker in it for each judge."""
    models = list(judges[0].elo)
    models += [name for one in judges for name in one.elo if name not in models]
    with canvas(height_inches=1.1 + (0.22 + 0.2 * len(judges)) * len(models)) as drawing:
        axes = drawing.subplots()
        for number, one in enumerate(judges):
            offset = 0.6 * ((number + 0.5) / len(judges) - 0.5)
            for name, elo in one.elo.items():
                _whisker(axes, models.index(name) + offset, elo, number)
            axes.plot([], [], label=one.judge, color=colour(number), marker=MARKERS[number % 6])
        axes.axvline(ANCHOR_ELO, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(models)), models)
        axes.set_ylim(len(models) - 0.4, -0.6)
        axes.set_xlabel("Elo (the anchor at 1000)")
        if len(judges) > 1:
            drawing.legend(loc="outside upper center", ncols=min(4, len(judges)))
        return finish(
            drawing,
            name="elo",
            title=strongest(judges[0]),
            caption="Strengths by maximum likelihood of the votes; 400 Elo are odds of ten to one. "
            "Whiskers are intervals clustered by labeler or prompt. " + _nuisances(judges),
        )


def matrix_figure(judged: JudgedModels, *, name: str) -> Figure:
    """Who won how often against whom, with what the ratings predict and how far off they are."""
    models, count = list(judged.elo), len(judged.elo)
    with canvas(height_inches=1.2 + 0.62 * count) as drawing:
        axes = drawing.subplots()
        for each in judged.matchups:
            if each.rate.estimate.value is not None:
                _cell(axes, models.index(each.column), models.index(each.row), each, judged)
        axes.set_xlim(-0.5, count - 0.5)
        axes.set_ylim(count - 0.5, -0.5)
        axes.set_xticks(range(count), models)
        axes.set_yticks(range(count), models)
        axes.xaxis.tick_top()
        axes.grid(visible=False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        return finish(
            drawing,
            name=name,
            title=transitivity(judged),
            caption=f"Win rates of rows against columns by {judged.judge}, ties one half. Below, "
            "what the ratings predict, and in brackets how many standard errors (clustered) the "
            "wins are beyond it; an asterisk marks what chance would hardly do in one of all these "
            "pairs. Pairs off in a circle are a sign of preferences without an order.",
        )


def transitivity(judged: JudgedModels) -> str:
    """Whether one strength for each model accounts for all pairs."""
    known = [
        (abs(one.fit.residual), one)
        for one in judged.matchups
        if one.fit is not None and one.fit.residual is not None and one.fit.residual > 0
    ]
    if not known:
        return f"Who wins against whom, by {judged.judge}"
    size, worst = max(known, key=lambda each: each[0])
    if size < critical_residual(judged):
        return f"By {judged.judge}, all pairs fare as the ratings predict, up to chance"
    return (
        f"By {judged.judge}, {worst.row} wins against {worst.column} more than the ratings predict "
        f"({size:.1f} standard errors)"
    )


def critical_residual(judged: JudgedModels) -> float:
    """The size that one of all residuals exceeds by chance in at most one of twenty matrices."""
    known = [each for each in judged.matchups if each.fit is not None]
    pairs = sum(each.fit is not None and each.fit.residual is not None for each in known) / 2
    tail = FAMILYWISE / (2 * max(pairs, 1))
    return float(special.stdtrit(max(judged.labelers - 1, 1), 1 - tail))


def matrix_rows(judged: JudgedModels) -> Iterator[tuple[str, str]]:
    """The matrix in words, each pair once."""
    order = list(judged.elo)
    for each in judged.matchups:
        rate = each.rate.estimate
        if order.index(each.row) > order.index(each.column) or rate.value is None:
            continue
        ends = "" if rate.low is None else f" ({100 * rate.low:.0f} to {100 * rate.high:.0f})"  # type: ignore[operator]
        said = f"{100 * rate.value:.1f} %{ends} of {rate.n}, {each.rate.ties} ties"
        if each.fit is not None:
            said += f"; predicted {100 * each.fit.predicted:.1f} %"
            if each.fit.residual is not None:
                said += f", residual {each.fit.residual:+.1f}".replace("-", "−")
        yield f"{each.row} against {each.column}", said


def score_elo_figure(
    preference_model: str, predicted: Sequence[ScoreElo], judges: Sequence[JudgedModels]
) -> Figure:
    """Elo predicted by scores across, Elo measured by each judge up; on the diagonal they agree."""
    with canvas(height_inches=3.9) as drawing:
        axes = drawing.subplots()
        shown = [one for one in predicted if one.from_gap.value is not None]
        ends = [ANCHOR_ELO]
        for number, judged in enumerate(judges):
            for one in shown:
                elo = judged.elo.get(one.model)
                if elo is None or elo.value is None or one.from_odds.value is None:
                    continue
                x = float(one.from_gap.value or 0.0)
                axes.plot(
                    [one.from_odds.value, x], [elo.value, elo.value], color=colour(number),
                    linewidth=1.0, linestyle=DASHES[3],
                )  # fmt: skip
                axes.plot(one.from_odds.value, elo.value, marker="|", color=colour(number))
                if elo.low is not None and elo.high is not None:
                    axes.plot([x, x], [elo.low, elo.high], color=colour(number), alpha=0.55)
                axes.plot(x, elo.value, marker=MARKERS[number % 6], color=colour(number))
                if number == 0:
                    axes.annotate(
                        one.model, (x, elo.value), xytext=(6, -11), textcoords="offset points"
                    )
                ends += [x, elo.value]
            axes.plot([], [], label=judged.judge, color=colour(number), marker=MARKERS[number % 6])
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=QUIET, linestyle=DASHES[1])
        axes.margins(0.12)
        axes.set(xlabel=f"Elo predicted by {preference_model}", ylabel="Elo measured by votes")
        axes.legend(loc="best")
        return finish(
            drawing,
            name=f"predicted-{preference_model}",
            title=_over_estimated(preference_model, shown, judges),
            caption="Marks are Elo by the gap of mean scores (173.7 for each 1), the ticks to "
            "which they are tied Elo by the mean of σ(gap) over prompts. Right of the dashed line "
            "the preference model promises more than the judges find.",
        )


def _over_estimated(
    preference_model: str, predicted: Sequence[ScoreElo], judges: Sequence[JudgedModels]
) -> str:
    gaps = [
        (one.from_gap.value - elo.value, one.model, judge.judge)
        for judge in judges[:1]
        for one in predicted
        if one.from_gap.value is not None
        and (elo := judge.elo.get(one.model)) is not None
        and elo.value is not None
    ]
    if not gaps:
        return f"Elo predicted by {preference_model}"
    size, model, judge = max(gaps)
    if size <= 0:
        return f"{preference_model} promises nobody more Elo than {judge} finds"
    return f"{preference_model} promises {model} {size:.0f} Elo more than {judge} finds"


def _whisker(axes: Axes, place: float, elo: Estimate, number: int) -> None:
    if elo.value is None:
        return
    if elo.low is not None and elo.high is not None:
        axes.plot(
            [elo.low, elo.high], [place, place], color=colour(number), linewidth=2.2, alpha=0.55
        )
    axes.plot(elo.value, place, marker=MARKERS[number % 6], color=colour(number), zorder=3)


def _cell(axes: Axes, x: int, y: int, each: Matchup, judged: JudgedModels) -> None:
    share = each.rate.estimate.value or 0.0
    ink = colour(0) if share >= 0.5 else colour(1)
    axes.fill_between(
        [x - 0.48, x + 0.48], y - 0.46, y + 0.46, color=ink, alpha=0.08 + abs(share - 0.5),
        linewidth=0,
    )  # fmt: skip
    axes.text(x, y - 0.12, f"{100 * share:.0f} %", ha="center", va="center", color=INK)
    if each.fit is None:
        return
    said = f"{100 * each.fit.predicted:.0f} %"
    if each.fit.residual is not None:
        sign = "*" if abs(each.fit.residual) >= critical_residual(judged) else ""
        said += f" ({each.fit.residual:+.1f}{sign})".replace("-", "−")
    axes.text(x, y + 0.24, said, ha="center", va="center", color=QUIET, fontsize=7.5)


def _nuisances(judges: Sequence[JudgedModels]) -> str:
    said = []
    for one in judges:
        if one.first_advantage is not None and one.first_advantage.low is not None:
            share = special.expit(one.first_advantage.value)
            low, high = special.expit([one.first_advantage.low, one.first_advantage.high])
            said.append(
                f"{one.judge}: of two equals the first shown wins {100 * share:.0f} % "
                f"({100 * low:.0f} to {100 * high:.0f})"
            )
    return "; ".join(said) + "." if said else ""


def _gap(elo: float | None) -> str:
    return f"{(elo or ANCHOR_ELO) - ANCHOR_ELO:.0f}".replace("-", "−")
