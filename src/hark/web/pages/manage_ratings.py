"""How models fare, as files for other programs: JSON, and tables as CSV.

As of when they are stands in the JSON, and in the header `Last-Modified` of each: a line of it in a
table would be no line of the table.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

from hark.evaluation.intervals import Estimate
from hark.web.identity import Place, Staff
from hark.web.pages.manage_frame import ManageRoute, Shown
from hark.web.results import results_of

router = APIRouter(route_class=ManageRoute)

RATINGS: Final = ("model", "elo", "low", "high", "level", "state", "wins", "ties", "losses")
RATES: Final = (
    "row", "column", "rate", "low", "high", "level", "state", "wins", "ties", "losses",
)  # fmt: skip


@router.get("/{name}/dashboard/models.json")
def fetch_models(store: Place, _caller: Staff, study: Shown) -> Response:
    """Elo and win rates with their intervals, as the API has them."""
    results = results_of(store, study)
    said = results.votes.to_json() | {"as_of": results.as_of}
    text = json.dumps(said, indent=2, ensure_ascii=False)
    name = f"{study.settings.name}-models.json"
    return _file(text + "\n", "application/json", name, results.as_of)


@router.get("/{name}/dashboard/elo.csv")
def fetch_elo(store: Place, _caller: Staff, study: Shown) -> Response:
    """A line for each model, the strongest first."""
    results = results_of(store, study)
    rated = results.votes.ratings.ratings
    lines = ([one.model, *_cells(one.elo), one.wins, one.ties, one.losses] for one in rated)
    return _table(RATINGS, lines, f"{study.settings.name}-elo.csv", results.as_of)


@router.get("/{name}/dashboard/win-rates.csv")
def fetch_win_rates(store: Place, _caller: Staff, study: Shown) -> Response:
    """A line for each ordered pair of models: how often the one in `row` wins."""
    results = results_of(store, study)
    lines = (
        [one.row, one.column, *_cells(one.rate.estimate),
         one.rate.wins, one.rate.ties, one.rate.losses]
        for one in results.votes.matchups
    )  # fmt: skip
    return _table(RATES, lines, f"{study.settings.name}-win-rates.csv", results.as_of)


def _cells(estimate: Estimate) -> list[object]:
    """Empty where there is no number; the state says why."""
    return [estimate.value, estimate.low, estimate.high, estimate.level, estimate.state]


def _table(
    names: Sequence[str], lines: Iterable[Sequence[object]], file: str, as_of: float
) -> Response:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for line in lines:
        # A spreadsheet takes what begins so for a formula, and models are named by people.
        writer.writerow([f"'{one}" if str(one)[:1] in ("=", "+", "@") else one for one in line])
    return _file(text.getvalue(), "text/csv; charset=utf-8", file, as_of)


def _file(text: str, media_type: str, name: str, as_of: float) -> Response:
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Last-Modified": formatdate(as_of, usegmt=True),
    }
    return Response(text, media_type=media_type, headers=headers)
