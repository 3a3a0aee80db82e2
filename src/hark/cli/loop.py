"""`hark loop`: iterated online training, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from hark.cli.options import Json, Overrides
from hark.cli.outcome import announce, plain
from hark.errors import SettingsError
from hark.loop.references import merge, read_change

if TYPE_CHECKING:
    from hark.loop.simulation.characters import CrowdSettings

app = App(
    name="loop",
    help="Iterated online training: serve, collect, retrain, again.",
    help_format="plaintext",
)

Directory = Annotated[Path, Parameter(help="The loop's directory.")]
Crowd = Annotated[
    list[str],
    Parameter(
        name="--crowd",
        help="A dial of the simulated labelers, as noise=0.2 or spammers=0; may be repeated.",
        negative=(),
        show_default=False,
    ),
]


@app.command
def init(
    settings: Annotated[Path, Parameter(help="YAML file with the loop's settings.")],
    directory: Directory,
    *,
    set_: Overrides = [],  # noqa: B006 (cyclopts shows it; it is never changed)
    json: Json = False,
) -> None:
    """Make a loop's directory; given again with the same settings, nothing is changed.

    Example: hark loop init LOOP.yaml loops/weekly
    """
    from hark.loop.online.place import Loop
    from hark.loop.online.settings import LoopSettings
    from hark.settings import read_settings_file

    values = read_settings_file(settings)
    for override in set_:
        form = "NAME=VALUE, such as collect.items=200"
        values = merge(values, read_change(override, option="--set", form=form))
    made = Loop.make(directory, LoopSettings.parse(values, where=str(settings)))
    results = {"loop": str(directory), "name": made.settings.name}
    announce({**results, "next": f"hark loop round {directory}"}, run=None, as_json=json)


@app.command(name="round")
def round_(
    directory: Directory,
    *,
    rounds: Annotated[
        int | None,
        Parameter(
            help="Go on until so many rounds are finished, counted from the first; without it, "
            "finish the round under way, or the next one.",
            validator=Number(gte=0),
        ),
    ] = None,
    wait: Annotated[
        bool,
        Parameter(
            help="Wait for people until the quota or the date; without it, say what is waited for "
            "and stop.",
            negative=(),
            show_default=False,
        ),
    ] = False,
    simulate: Annotated[
        int | None,
        Parameter(
            help="Let so many simulated labelers work, over the same API.",
            validator=Number(gte=1),
        ),
    ] = None,
    crowd: Crowd = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Go on with a round, or begin the next. After any interruption, give the same command again.

    Example: hark loop round loops/weekly --wait
    """
    from hark.loop.online.place import Loop
    from hark.loop.online.rounds import Request, go_on
    from hark.loop.online.standing import standing

    if simulate is not None and wait:
        raise SettingsError("--wait would be ignored: simulated labelers do not wait")
    if simulate is None and crowd:
        raise SettingsError("--crowd would be ignored without --simulate")
    population = None if simulate is None else _population(simulate, crowd)
    request = Request(rounds=rounds, population=population, stays=wait)
    with Loop.open(directory).held() as loop:
        waiting = go_on(loop, request)
        told = standing(loop)
    said = None if waiting is None else str(waiting)
    if json:
        announce({**told, "waiting": said}, run=None, as_json=True)
        return
    _show(told)
    if said is not None:
        print(said)


@app.command
def status(directory: Directory, *, json: Json = False) -> None:
    """Show how far each round is.

    Example: hark loop status loops/weekly
    """
    from hark.loop.online.place import Loop
    from hark.loop.online.standing import standing

    told = standing(Loop.open(directory))
    if json:
        announce(told, run=None, as_json=True)
    else:
        _show(told)


@app.command
def report(directory: Directory, *, json: Json = False) -> None:
    """Rate the snapshots by all votes, and write one page of all rounds.

    Example: hark loop report loops/weekly
    """
    from hark.loop.online.place import Loop
    from hark.loop.online.reporting import write_loop_report

    found = write_loop_report(Loop.open(directory))
    if json:
        announce(found, run=None, as_json=True)
        return
    announce(
        {"rounds": found["rounds"], "ratings": found["shown_ratings"]}, run=None, as_json=False
    )
    print(f"open {Path(found['page']).resolve().as_uri()}")


@app.command
def experiment(directory: Directory, *, json: Json = False) -> None:
    """Train on the static tranche alone, and on as many pairs of all kinds; compare the two.

    Example: hark loop experiment loops/weekly
    """
    from hark.loop.online.experiment import run_experiment
    from hark.loop.online.place import Loop

    with Loop.open(directory).held() as loop:
        announce(run_experiment(loop), run=None, as_json=json)


@app.command
def simulate(
    directory: Directory,
    *,
    study: Annotated[str, Parameter(help="Name of the study, as `hark loop status` tells it.")],
    labelers: Annotated[int, Parameter(help="How many there are.", validator=Number(gte=1))] = 50,
    crowd: Crowd = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Let simulated labelers work through a loop's study while something else serves it.

    Example: hark loop simulate loops/weekly --study weekly-round-1
    """
    from hark.loop.online.labelers import label
    from hark.loop.online.place import Loop

    done = label(Loop.open(directory), study, _population(labelers, crowd))
    announce(done, run=None, as_json=json)


def _population(labelers: int, dials: Sequence[str]) -> CrowdSettings:
    from hark.loop.simulation.characters import CrowdSettings

    values: dict[str, Any] = {"labelers": labelers}
    for dial in dials:
        values |= read_change(dial, option="--crowd", form="NAME=VALUE, such as noise=0.2")
    return CrowdSettings.parse(values, where="--crowd")


def _show(told: dict[str, Any]) -> None:
    announce(plain(told), run=None, as_json=False)
