"""The stage `online`: rounds of online training with simulated labelers, for recipes and studies.

People label in a loop of their own: `hark loop`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from hark.loop.inputs import data_files, model_files
from hark.loop.online.settings import LoopParts, LoopSettings
from hark.loop.simulation.characters import CrowdSettings
from hark.runs.run import Run
from hark.runs.settings import StageSettings


class OnlineSettings(StageSettings, LoopParts):
    """Iterated online training with simulated labelers."""

    rounds: int = Field(default=3, ge=1)
    """How many rounds collect labels."""
    crowd: CrowdSettings = CrowdSettings()
    """The labelers."""
    experiment: bool = True
    """Also train on the static tranche alone and on as much of all kinds."""
    drill_kills: bool = False
    """Kill the loop, the server, the models' server and the labelers with SIGKILL, each once."""


def online_inputs(settings: OnlineSettings) -> list[Path]:
    """Files and directories whose contents decide the result."""
    policy = settings.policy.get("data", ())
    given = [
        *settings.static.data, *settings.collect.prompts, *settings.measure.data,
        *(settings.rejection_prompts if settings.rejection else ()),
        *([policy] if isinstance(policy, str) else policy),
    ]  # fmt: skip
    data = [path for each in given for path in data_files(str(each))]
    named = (str(settings.preference["model"]), settings.start)
    models = [path for name in named for path in model_files(name)]
    return list(dict.fromkeys([*models, *data]))


def run_online(settings: OnlineSettings, run: Run) -> dict[str, Any]:
    """The rounds, in a loop's directory inside the run; what they found."""
    # Imported here: these run stages, and this is one.
    from hark.loop.online.experiment import run_experiment
    from hark.loop.online.kill_drill import LABELERS, LOOP, MODELS, SERVER, drive, held_receipts
    from hark.loop.online.place import Loop
    from hark.loop.online.reporting import findings_of, scores_of, write_loop_report

    loop = Loop.make(run.path / "loop", loop_settings(settings))
    kills: list[str] = []
    if settings.drill_kills:
        live = [MODELS] if settings.collect.task == "dialogue" else []
        kills = [LABELERS, SERVER, *live, LOOP]
    killed = drive(loop, rounds=settings.rounds, population=settings.crowd, kills=kills)
    with loop.held() as finished:
        experiment = run_experiment(finished) if settings.experiment else None
    loop = Loop.open(loop.path)
    write_loop_report(loop)
    found = findings_of(loop)
    run.data_path("scores.json").write_text(json.dumps(scores_of(loop)), encoding="utf-8")
    return {
        **{name: found[name] for name in ("rounds", "tranches", "ratings", "collected")},
        "experiment": experiment,
        "killed": killed,
        "to_kill": kills,
        "receipts": held_receipts(loop),
        "loop": str(loop.path),
        "page": str(loop.path / "report.html"),
    }


def loop_settings(settings: OnlineSettings) -> LoopSettings:
    """The loop's own settings among those of the stage."""
    fields = set(LoopParts.model_fields) & settings.model_fields_set
    values = {name: value for name, value in settings.given().items() if name in fields}
    shared = {"seed": settings.seed, "device": settings.device, "dtype": settings.dtype}
    name = {"name": f"loop-{settings.name}".strip("-").lower()}
    return LoopSettings.parse({**values, **shared, **name})
