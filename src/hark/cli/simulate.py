"""`hark feedback simulate`: simulated labelers at a server's real API. No torch."""

from __future__ import annotations

import contextlib
import json as json_format
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from hark.cli.options import Json
from hark.cli.outcome import announce, plain
from hark.errors import HarkError, SettingsError

if TYPE_CHECKING:
    from hark.web.client import FeedbackClient

Kind = Literal[
    "dialogue", "ranking", "demonstration", "summary", "vote", "review", "audit", "question"
]
LIVE = ("dialogue", "question")
"""Kinds in which models answer while somebody labels."""
Snapshots = Annotated[
    list[str],
    Parameter(
        help="Models of the server that answer in the dialogues or questions that are made, by the "
        "names that `hark serve --model` gave them.",
        consume_multiple=True,
        negative=(),
        show_default=False,
    ),
]
Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]
Count = Annotated[int, Parameter(validator=Number(gte=1))]


def simulate(
    study: Annotated[str, Parameter(help="Name of the study.")],
    *,
    server: Annotated[str, Parameter(help="Address of the application.")] = "http://127.0.0.1:8080",
    token: Annotated[
        str | None,
        Parameter(help="API token of an owner, who invites them.", env_var="HARK_TOKEN"),
    ] = None,
    store: Annotated[
        str | None,
        Parameter(help="The server's database, where there is no token: one is made and revoked."),
    ] = None,
    make: Annotated[
        Kind | None, Parameter(help="Make the study first, with playground items of this kind.")
    ] = None,
    items: Annotated[Count, Parameter(help="Items of the study that is made.")] = 100,
    overlap: Annotated[Count, Parameter(help="Labelers for each item of it.")] = 5,
    snapshots: Snapshots = [],  # noqa: B006 (cyclopts shows it; it is never changed)
    labelers: Annotated[Count, Parameter(help="How many there are.")] = 50,
    labels_each: Annotated[
        int | None,
        Parameter(
            help="Items that each does; without it, until nothing is left.",
            validator=Number(gte=1),
        ),
    ] = None,
    seed: Annotated[int, Parameter(help="Another seed is other people.")] = 0,
    noise: Annotated[
        float,
        Parameter(
            help="Of a careful labeler: the Bradley–Terry temperature, in units of the grade.",
            validator=Number(gte=0),
        ),
    ] = 0.118,
    biased: Annotated[Share, Parameter(help="Share who like what is first, and long.")] = 0.1,
    guessers: Annotated[Share, Parameter(help="Share who choose by lot.")] = 0.04,
    spammers: Annotated[Share, Parameter(help="Share who choose what is first, unread.")] = 0.06,
    speeders: Annotated[Share, Parameter(help="Share who hardly read.")] = 0.06,
    pasters: Annotated[Share, Parameter(help="Share whose writing is pasted.")] = 0.04,
    abandoners: Annotated[Share, Parameter(help="Share who walk off from items.")] = 0.1,
    pace: Annotated[
        float,
        Parameter(
            help="Seconds that they wait for each that a person would take.",
            validator=Number(gte=0),
        ),
    ] = 0.0,
    arrival: Annotated[
        float, Parameter(help="Seconds within which they come.", validator=Number(gte=0))
    ] = 0.0,
    redraws: Annotated[
        int,
        Parameter(
            help="Studies drawn again to see whether intervals hold.", validator=Number(gte=1)
        ),
    ] = 50,
    report: Annotated[Path | None, Parameter(help="File for all that was found, as JSON.")] = None,
    json: Json = False,
) -> None:
    """Let simulated labelers work through a study, and hold what comes of it against the truth.

    They are invited, sign in, consent, claim, answer, skip, walk off, click twice and paste; some
    are spammers. Accounts and labels stay in the store: use a study made for it.

    Example: hark feedback simulate rehearsal --make vote --store feedback.db
    """
    from hark.loop.simulation.characters import CrowdSettings, crowd
    from hark.loop.simulation.crowd import Invited, WorkSettings, work
    from hark.loop.simulation.findings import findings, suspicions_of
    from hark.loop.simulation.latency import Timed

    dials = CrowdSettings.parse(
        {
            "labelers": labelers, "seed": seed, "noise": noise, "biased": biased,
            "guessers": guessers, "spammers": spammers, "speeders": speeders,
            "pasters": pasters, "abandoners": abandoners,
        }
    )  # fmt: skip
    working = WorkSettings(labels_each=labels_each, pace=pace, arrival_seconds=arrival, pages=True)
    notes: list[Timed] = []
    _check_snapshots(make, snapshots)
    with _owner(server, token, store) as owner:
        if make is not None:
            _make(owner, study, make, snapshots, items=items, overlap=overlap, seed=seed)
        owner.study(study)  # One sentence now is better than one from each labeler.
        seat = Invited(owner=owner, url=server, study=study, notes=notes)
        with _counting(owner, study, working.labels_each, labelers, quiet=json) as count:
            outcome = work(crowd(dials), seat, study, working, notes=notes, on_item=count)
        records = list(owner.events(study))
        said = suspicions_of(owner, study)
        found = findings(outcome, records, dials, suspicions=said, redraws=redraws)
    _tell(found, report, as_json=json)
    if found["errors"] or found["lost"] or found["doubled"] or found["altered"]:
        raise HarkError(
            f"{found['errors']} errors, {found['lost']} labels lost, {found['doubled']} doubled, "
            f"{found['altered']} altered; the first error: {(found['error_examples'] or ['–'])[0]}"
        )


@contextlib.contextmanager
def _owner(server: str, token: str | None, store: str | None) -> Iterator[FeedbackClient]:
    """An owner's client, by the token given, or by one that is made for as long."""
    from hark.cli.feedback import open_store
    from hark.feedback import sign_in
    from hark.feedback.accounts import first_owner
    from hark.feedback.identifiers import new_id
    from hark.feedback.refusals import NotSignedInError
    from hark.web.client import FeedbackClient, Patience

    # A wrong address should show at once; later on a server may be away for longer.
    soon = Patience(seconds=3)
    with FeedbackClient(server, patience=soon) as one, contextlib.suppress(NotSignedInError):
        one.me()

    if (token is None) == (store is None):
        raise SettingsError("give an owner's --token, or the --store of the server; one of them")
    if token is not None:
        with FeedbackClient(server, token) as client:
            yield client
        return
    assert store is not None
    label = f"simulate {new_id()}"
    with open_store(store) as opened:
        person = first_owner(opened)
        secret = sign_in.create_api_token(opened, person.id, label)
        try:
            with FeedbackClient(server, secret) as client:
                yield client
        finally:
            sign_in.revoke_api_tokens(opened, person.id, label)


def _check_snapshots(make: Kind | None, snapshots: list[str]) -> None:
    """Raises: SettingsError if models are named in vain, or needed and not named."""
    if snapshots and make not in LIVE:
        raise SettingsError(
            "--snapshots would be ignored: models answer live in a study that is made with "
            "--make dialogue or --make question"
        )
    if make in LIVE and not snapshots:
        raise SettingsError(
            f"models answer in a {make}: name some that the server has with --snapshots"
        )


@contextlib.contextmanager
def _counting(
    owner: FeedbackClient, study: str, each: int | None, labelers: int, *, quiet: bool
) -> Iterator[Callable[[], None]]:
    """What is to be called after each item: it shows rate and time left, unless `quiet`.

    How many there will be is known but for items with known answers, which fill no place.
    """
    from hark.runs.progress import progress

    if quiet:
        yield lambda: None
        return
    now = owner.progress(study, fresh=True)
    places = int(now["places"]) - int(now["filled"])
    total = places if each is None else min(places, each * labelers)
    lock = threading.Lock()
    with progress(total=total, label=f"labelers of {study}", unit="item") as bar:

        def count() -> None:
            with lock:
                bar.advance()

        yield count


def _make(
    owner: FeedbackClient,
    study: str,
    kind: Kind,
    snapshots: list[str],
    *,
    items: int,
    overlap: int,
    seed: int,
) -> None:
    from hark.loop.simulation.items import ATTACK, playground_items

    owner.create_study(
        {
            "name": study,
            "title": f"Simulation: {kind}",
            "task": kind,
            "instructions": "For simulated labelers.",
            "overlap": overlap,
            "gold_fraction": 0.1,
            "snapshots": snapshots,
            "categories": {ATTACK: "Attempts to make a model say harmful things."}
            if kind == "dialogue"
            else {},
        }
    )
    owner.add_items(study, playground_items(kind, items, seed=seed))
    owner.set_state(study, "open")


def _tell(found: dict[str, Any], report: Path | None, *, as_json: bool) -> None:
    if report is not None:
        text = json_format.dumps(plain(found), indent=2, ensure_ascii=False, allow_nan=False)
        report.write_text(text + "\n", encoding="utf-8")
    if as_json:
        announce(found, run=None, as_json=True)
        return
    covered = found["coverage"] or {}
    flat = {name: value for name, value in covered.items() if name != "intervals"}
    tables = {"intervals": covered.get("intervals", []), "intervals_hold": flat or None}
    announce({**found, "coverage": None, **tables}, run=None, as_json=False)
