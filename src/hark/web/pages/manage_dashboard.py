"""A study as it goes: progress, agreement, labelers, models. Drawn anew every few seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from hark.evaluation.elo import Ratings
from hark.evaluation.intervals import Estimate
from hark.feedback.agreement import Agreement
from hark.feedback.statistics_agreement import QuestionAgreement
from hark.web import charts
from hark.web.charts import Mark
from hark.web.identity import Place, Staff
from hark.web.pages.manage_frame import ManageRoute, Shown, show
from hark.web.results import results_of

router = APIRouter(route_class=ManageRoute)

UNDEFINED = {
    "nothing to compare": "undefined: nothing to compare yet",
    "no variation": "undefined: all answers are the same",
    "no observations": "none yet",
    "one cluster": "no interval: all by one labeler",
    "unbounded": "no interval: won or lost every vote",
    "not identified": "undefined: no votes join it to the others",
}
"""The named states of coefficients and estimates, in words."""


@router.get("/{name}/dashboard")
def show_dashboard(caller: Staff, study: Shown) -> HTMLResponse:
    """The frame; its parts load themselves, and again and again."""
    return show("dashboard.html", caller, study=study, here="dashboard")


@router.get("/{name}/dashboard/progress")
def show_progress(store: Place, caller: Staff, study: Shown) -> HTMLResponse:
    """Counts, pace and history."""
    results = results_of(store, study, wait=False)
    counted = results.progress
    return show(
        "dashboard_progress.html",
        caller,
        study=study,
        progress=counted,
        results=results,
        bar=charts.progress_bar(counted.filled, counted.open, counted.places),
        history=counted.history and charts.history_chart(counted.history),
        clock_time=charts.clock_time,
        spell=charts.spell,
        duration=duration,
        said=said,
    )


@router.get("/{name}/dashboard/results")
def show_results(store: Place, caller: Staff, study: Shown) -> HTMLResponse:
    """Agreement, labelers, and how models fare."""
    results = results_of(store, study, wait=False)
    ratings = results.votes.ratings
    return show(
        "dashboard_results.html",
        caller,
        study=study,
        results=results,
        agreement=agreement_chart(results.agreement),
        strengths=elo_chart(ratings) if ratings.votes else None,
        said=said,
        undefined=UNDEFINED,
        shade=shade,
        logistic=lambda logit: 1 / (1 + math.exp(-logit)),
        duration=duration,
    )


def agreement_chart(questions: Sequence[QuestionAgreement]) -> object:
    """Krippendorff's alpha of each question, chance at 0; None without questions.

    Flags are left to the table: eleven of them would hide the rest.
    """
    marks = [
        Mark(
            name=" · ".join([one.question, *one.between.split(" and ", 1)[1:]]),
            value=one.alpha.value,
            note=said(one.alpha),
        )
        for one in questions
        if not one.question.startswith("flag")
    ]
    if not marks:
        return None
    worst = min((mark.value for mark in marks if mark.value is not None), default=0.0)
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    while worst < ticks[0]:
        ticks.insert(0, round(ticks[0] - 0.2, 1))
    return charts.interval_chart(
        marks, title="Krippendorff's alpha of each question", ticks=ticks, reference=0.0,
        name_width=300, note_width=200,
    )  # fmt: skip


def elo_chart(ratings: Ratings) -> object:
    """Elo of each model with its interval; the anchor's is 1000 and has none."""
    rated = [one for one in ratings.ratings if one.elo.value is not None]
    known = [end for one in rated for end in (one.elo.value, one.elo.low, one.elo.high)]
    ends = [end for end in known if end is not None]
    marks = [
        Mark(
            name=one.model,
            value=one.elo.value,
            low=one.elo.low,
            high=one.elo.high,
            note=f"{one.elo.value:.0f}" + _ends(one.elo),
        )
        for one in rated
        if one.elo.value is not None
    ]
    return charts.interval_chart(
        marks,
        title="Elo of each model with 95% intervals",
        ticks=charts.nice_ticks(min(ends), max(ends)),
        reference=1000.0,
        note_width=170,
    )


def _ends(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return " (anchor)" if estimate.state == "exact" else ""
    return f" [{estimate.low:.0f}, {estimate.high:.0f}]"


def said(measured: Agreement | Estimate) -> str:
    """A coefficient, or why there is none."""
    if measured.value is None:
        return UNDEFINED.get(measured.state, f"undefined: {measured.state}")
    return f"{measured.value:.2f}"


def shade(share: float) -> str:
    """The CSS class of a cell of the win-rate matrix: from "shade-0" over "shade-5" to 10."""
    return f"shade-{round(share * 10)}"


def duration(seconds: float) -> str:
    """A length of time in words, in one unit or two."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
