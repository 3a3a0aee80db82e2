"""`hark feedback`: studies, invites, imports and exports of a feedback store. No torch.

Whoever can open the store acts as its owner; the web application asks who they are.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from hark.cli.options import Json
from hark.cli.outcome import announce
from hark.errors import SettingsError

if TYPE_CHECKING:
    from hark.feedback.imports.fields import FieldNames
    from hark.feedback.imports.findings import Finding
    from hark.feedback.imports.landing import ImportReport
    from hark.feedback.store import Store
    from hark.feedback.tasks import TaskKind

app = App(name="feedback", help="Collect labels and hand them on.", help_format="plaintext")
app.command(
    "hark.cli.simulate:simulate",
    name="simulate",
    help="Let simulated labelers work through a study.",
)

Place = Annotated[
    str,
    Parameter(
        name="--store",
        env_var="HARK_STORE",
        help="The database: a file of SQLite, or a postgresql:// URL.",
    ),
]
DEFAULT_STORE = "feedback.db"
Study = Annotated[str, Parameter(help="Name of the study.")]
Tool = Literal["label-studio", "argilla", "hh"]
EXAMPLES_SHOWN = 3


@app.command
def owner(
    login: Annotated[str, Parameter(help="What the owner signs in with.")],
    *,
    password_file: Annotated[
        Path | None, Parameter(help="File with the password; without it, the terminal is asked.")
    ] = None,
    store: Place = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Make the first account of a new store.

    Example: hark feedback owner ada
    """
    from hark.feedback import accounts
    from hark.feedback.store import Store

    password = _ask_password() if password_file is None else _read_password(password_file)
    with Store(store) as opened:
        made = accounts.create_owner(opened, login, password)
    announce({"login": made.login, "role": made.role}, run=None, as_json=json)


def _ask_password() -> str:
    if not sys.stdin.isatty():
        raise SettingsError("there is no terminal to ask for a password; give --password-file")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise SettingsError("the two passwords differ; give the command again")
    return password


def _read_password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SettingsError(f"password file '{path}' is not UTF-8 text") from None


def open_store(place: str) -> Store:
    """A store that exists: a misspelt name is no new one. Raises: SettingsError."""
    from hark.feedback.store import Store

    if "://" not in place and not Path(place).exists():
        raise SettingsError(
            f"there is no database '{place}'; name one with --store or HARK_STORE, or make it with "
            "`hark feedback owner LOGIN`"
        )
    return Store(place)


@app.command
def create(
    settings: Annotated[Path, Parameter(help="YAML or JSON file with the study's settings.")],
    *,
    items: Annotated[
        Path | None, Parameter(help="Items to fill it with: JSON lines or Parquet.")
    ] = None,
    open_: Annotated[
        bool, Parameter(name="--open", help="Open it to labelers at once.", negative=())
    ] = False,
    store: Place = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Make a study.

    Example: hark feedback create study.yaml --items items.jsonl --open
    """
    from hark.feedback import studies
    from hark.feedback.accounts import first_owner
    from hark.feedback.item_files import read_items
    from hark.feedback.items import add_items, check_fits
    from hark.feedback.studies import StudySettings
    from hark.settings import read_settings_file

    asked = StudySettings.parse(read_settings_file(settings), where=str(settings))
    given = [] if items is None else read_items(items)
    for item in given:
        check_fits(asked, item)  # Before there is a study that lacks them.
    with open_store(store) as opened:
        by = first_owner(opened).id
        study = studies.create_study(opened, asked, by=by)
        added = add_items(opened, study.id, given, by=by)
        if open_:
            study = studies.set_state(opened, study.id, "open", by=by)
    results = {"study": asked.name, "state": study.state, "items": len(set(added))}
    announce(results, run=None, as_json=json)


@app.command
def invite(
    study: Annotated[str | None, Parameter(help="Study that the invited join.")] = None,
    *,
    role: Annotated[
        Literal["owner", "researcher", "reviewer", "labeler"],
        Parameter(help="What the invited may do."),
    ] = "labeler",
    uses: Annotated[
        int, Parameter(help="How many people may use the link.", validator=Number(gte=1))
    ] = 1,
    days: Annotated[
        float, Parameter(help="How long the link is good for.", validator=Number(gt=0))
    ] = 14.0,
    held_out: Annotated[
        bool, Parameter(help="Give them test items only, never training ones.", negative=())
    ] = False,
    url: Annotated[str, Parameter(help="Where the application is served; begins the link.")] = "",
    store: Place = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Make a link by which people get an account. It is shown once.

    Example: hark feedback invite summaries --uses 10 --url https://labels.example.org
    """
    from hark.feedback import invites, studies
    from hark.feedback.accounts import first_owner

    with open_store(store) as opened:
        secret = invites.invite(
            opened,
            by=first_owner(opened).id,
            role=role,
            study_id=None if study is None else studies.find_study(opened, study).id,
            held_out=held_out,
            uses=uses,
            days=days,
        )
    link = f"{url.rstrip('/')}/invite/{secret}"
    if json:
        announce({"link": link, "role": role, "uses": uses}, run=None, as_json=True)
    else:
        print(link)  # Alone and unwrapped, to be copied.
        if not url:
            print(
                "Put the address of your server before it, or give --url: people elsewhere open "
                "the whole link.",
                file=sys.stderr,
            )


@app.command
def invites(*, store: Place = DEFAULT_STORE, json: Json = False) -> None:
    """List the links that are still good, with the ids by which they are revoked.

    Example: hark feedback invites
    """
    from hark.feedback.events import iso_time
    from hark.feedback.invites import list_invites

    with open_store(store) as opened:
        found = list_invites(opened)
    rows = [
        {
            "id": one.id,
            "study": one.study,
            "role": one.role,
            "held_out": one.held_out,
            "uses_left": one.uses_left,
            "good_until": iso_time(one.expires_at)[:10],
        }
        for one in found
    ]
    if not rows and not json:
        print("no link is good now: hark feedback invite STUDY")
        return
    announce({"invites": rows}, run=None, as_json=json)


@app.command
def revoke(
    invite_id: Annotated[str, Parameter(help="The link's id, as `hark feedback invites` has it.")],
    *,
    store: Place = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Let a link be good for nothing any more, whoever has it.

    Example: hark feedback revoke 01997d3c-5c3e-7a50-a6b5-b0a6a4c0f1f5
    """
    from hark.feedback.accounts import first_owner
    from hark.feedback.invites import revoke as revoke_invite

    with open_store(store) as opened:
        revoke_invite(opened, invite_id, by=first_owner(opened).id)
    announce({"revoked": invite_id}, run=None, as_json=json)


@app.command(name="import")
def import_(
    file: Annotated[Path, Parameter(help="The other tool's export.")],
    *,
    from_: Annotated[Tool, Parameter(name="--from", help="The tool.")],
    study: Study,
    as_: Annotated[
        Literal["labels", "items"],
        Parameter(
            name="--as", help="labels: keep what is labelled; items: keep all, to be labelled anew."
        ),
    ] = "labels",
    use: Annotated[Literal["train", "test"], Parameter(help="What the items are for.")] = "train",
    source: Annotated[
        str | None,
        Parameter(
            help="Name of the tool's server, where there are several: annotators and records of "
            "one source are the same. By default the tool's name."
        ),
    ] = None,
    prompt_field: Annotated[
        str | None, Parameter(help="Field with the prompt, if its name is not usual.")
    ] = None,
    response_fields: Annotated[
        list[str] | None,
        Parameter(
            help="Fields with the responses, or the one with their list, if not usual.",
            consume_multiple=True,
            negative=(),
        ),
    ] = None,
    store: Place = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Bring in labels, or items, of another tool. A file may be imported again: nothing doubles.

    Example: hark feedback import project-1.json --from label-studio --study answers
    """
    from hark.feedback.accounts import first_owner
    from hark.feedback.imports.fields import FieldNames
    from hark.feedback.imports.landing import land
    from hark.feedback.studies import find_study

    names = FieldNames(prompt=prompt_field, responses=tuple(response_fields or ()))
    if from_ == "hh" and names != FieldNames():
        raise SettingsError("--prompt-field and --response-fields would be ignored with --from hh")
    with open_store(store) as opened:
        kind = find_study(opened, study).settings.task
        report = land(
            opened,
            study,
            _read(from_, file, kind, names),
            tool=from_,
            source=source or from_,
            by=first_owner(opened).id,
            keep=as_,
            use=use,
        )
    _announce_import(report, as_json=json)


def _read(tool: Tool, file: Path, kind: TaskKind, names: FieldNames) -> Iterator[Finding]:
    from hark.feedback.imports import argilla, hh, label_studio

    if tool == "hh":
        return hh.read(file)
    return (label_studio if tool == "label-studio" else argilla).read(file, kind, names)


def _announce_import(report: ImportReport, *, as_json: bool) -> None:
    counts = {
        "items": report.items,
        "labels": report.labels,
        "repeated": report.repeated,
        "labelers": report.labelers,
    }
    if as_json:
        told = {"left_out": dict(report.left_out), "remarks": dict(report.remarks)}
        announce(counts | told, run=None, as_json=True)
        return
    announce(counts, run=None, as_json=False)
    for title, said in (("left out", report.left_out), ("kept, but", report.remarks)):
        for why, places in said.items():
            shown = "; ".join(places[:EXAMPLES_SHOWN])
            more = "; …" if len(places) > EXAMPLES_SHOWN else ""
            print(f"{title}: {len(places)} {why} ({shown}{more})")


@app.command
def export(
    study: Study,
    *,
    format_: Annotated[
        Literal["hark", "hh", "trl", "openai", "parquet"],
        Parameter(name="--format", help="hark and parquet keep ties and rankings whole."),
    ] = "hark",
    minimum_strength: Annotated[
        int,
        Parameter(
            help="Leave out graded choices below it, 0 to 4.", validator=Number(gte=0, lte=4)
        ),
    ] = 0,
    uses: Annotated[
        list[Literal["train", "test"]],
        Parameter(help="Items of these uses.", consume_multiple=True, negative=()),
    ] = ["train"],  # noqa: B006 (cyclopts shows it in --help; nobody changes it)
    members: Annotated[
        list[Literal["screening", "active", "paused", "rejected"]],
        Parameter(
            help="Labels of members in these states; those turned away are rejected.",
            consume_multiple=True,
            negative=(),
        ),
    ] = ["screening", "active", "paused"],  # noqa: B006 (as above)
    without_labelers: Annotated[
        list[str],
        Parameter(
            help="Leave out the labels of these: pseudonyms, logins or ids.",
            consume_multiple=True,
            negative=(),
        ),
    ] = [],  # noqa: B006 (as above)
    minimum_gold_accuracy: Annotated[
        float | None,
        Parameter(
            help="Leave out labelers who gave a smaller share of the known answers, 0 to 1.",
            validator=Number(gte=0, lte=1),
        ),
    ] = None,
    output: Annotated[
        Path, Parameter(help="Directory in which the snapshot gets one of its own.")
    ] = Path("snapshots"),
    store: Place = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Write a study's labels as a data snapshot, which training commands read.

    Example: hark feedback export answers --minimum-strength 2 --output snapshots
    """
    from hark.feedback.export import ExportSettings, export_study, read_about

    asked = ExportSettings(
        format=format_,
        minimum_strength=minimum_strength,
        uses=tuple(uses),
        members=tuple(members),
        without_labelers=tuple(without_labelers),
        minimum_gold_accuracy=minimum_gold_accuracy,
    )
    with open_store(store) as opened:
        path = export_study(opened, study, output, asked)
    about = read_about(path)
    results = {"snapshot": str(path), "data": str(path / about["data"])}
    counts = {"labels": about["labels"], "left_out": about["left_out"]}
    announce(results | counts, run=None, as_json=json)


@app.command
def check(
    snapshot: Annotated[Path, Parameter(help="Directory that an export wrote.")],
    *,
    json: Json = False,
) -> None:
    """Say whether a snapshot is still what its name says.

    Example: hark feedback check snapshots/answers-0123456789ab
    """
    from hark.feedback.export import check_snapshot, read_about

    about = read_about(snapshot)
    check_snapshot(snapshot)
    results = {"snapshot": str(snapshot), "unchanged": True, "labels": about["labels"]}
    announce(results, run=None, as_json=json)


@app.command
def status(
    study: Annotated[str | None, Parameter(help="One study; without it, all.")] = None,
    *,
    store: Place = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Show how far studies are, and how well their labelers agree.

    Example: hark feedback status
    """
    from hark.feedback.overview import overview

    with open_store(store) as opened:
        rows = [one.to_json() for one in overview(opened, study)]
    if not rows and not json:
        print("no study yet: hark feedback create study.yaml")
        return
    announce({"studies": rows}, run=None, as_json=json)
