"""What `hark serve --demo` shows: three studies on the playground, and who is invited.

No torch here: models are trained and served by processes of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hark.data.records import Dialogue
from hark.errors import RunError
from hark.feedback import accounts, invites, items, studies
from hark.feedback.items import NewItem
from hark.feedback.records import Sampling, Turn
from hark.feedback.refusals import NotFoundError
from hark.feedback.store import Store
from hark.feedback.studies import StudySettings
from hark.feedback.tasks import AnyTask, DialogueTask, RankingTask, VoteTask
from hark.playground.authors import prompts
from hark.playground.tasks import read_prompt
from hark.runs.manifest import Manifest

RECIPE: Final = Path(__file__).parent / "demo.yaml"
TRAINED: Final = ("early", "late")
"""Stages of the recipe whose models answer."""
LABELERS: Final = 20
"""How often the labelers' links can be used."""
DIALOGUES, RANKINGS, VOTES = 20, 12, 20
OVERLAP: Final = 3
THEME: Final = (
    "The assistant is a very small model that knows a very small world: countries and capitals, "
    "animals, food, jobs, sums, words, short stories. For example: {example}"
)
DIALOGUE_INSTRUCTIONS: Final = """\
Talk with an assistant. Write what you want to know; **two replies** come, side by side. Choose the
more *helpful* one and say how much better it is; the dialogue goes on with it.

The assistant is as small as a model can be, so both replies may be poor: choose the less poor one.
"""
RANKING_INSTRUCTIONS: Final = """\
Read the request and all replies. Rate each from 1 to 7 and tick what applies, then put them in
order, the best first. Replies that are equally good may share a place.
"""
VOTE_INSTRUCTIONS: Final = """\
Read the request and both replies. Which is better? Say so if neither is.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Secrets of invite links; each is told once."""

    owner: str | None
    """None if an owner can sign in already."""
    labelers: dict[str, str]
    """By study."""


def prepare(store: Store, snapshots: Sequence[str]) -> Links:
    """Make the studies, or have those that are there ask these models; invite people.

    snapshots: names of the models.
    """
    with store.write() as connection:
        server = accounts.server_person(connection, store.clock())
    wanted = DIALOGUES + RANKINGS + VOTES
    drawn = (one for one in prompts(2 * wanted, seed=7) if _is_harmless(one.prompt))
    asked = [one.prompt[-1].content for one in itertools.islice(drawn, wanted)]
    turns = [(Turn(role="user", content=text),) for text in asked]
    tasks: dict[str, list[AnyTask]] = {
        "demo-dialogue": [
            DialogueTask(theme=THEME.format(example=text), maximum_turns=3)
            for text in asked[:DIALOGUES]
        ],
        "demo-ranking": [
            RankingTask(prompt=one) for one in turns[DIALOGUES : DIALOGUES + RANKINGS]
        ],
        "demo-vote": [VoteTask(prompt=one) for one in turns[DIALOGUES + RANKINGS :]],
    }
    for settings in _studies(snapshots):
        _put_study(store, settings, tasks[settings.name], by=server.id)
    labelers = {
        name: invites.invite(
            store, by=server.id, study_id=studies.find_study(store, name).id, uses=LABELERS
        )
        for name in tasks
    }
    return Links(owner=invites.invite_first_owner(store), labelers=labelers)


def _is_harmless(prompt: Dialogue) -> bool:
    """The playground asks for harm too; whoever looks at the demo has not agreed to that."""
    task = read_prompt(prompt)
    return task is None or task.family != "harmful"


def _studies(snapshots: Sequence[str]) -> list[StudySettings]:
    shared: dict[str, Any] = {
        "overlap": OVERLAP,
        "snapshots": tuple(snapshots),
        "sampling": Sampling(temperature=0.5),
        "max_response_tokens": 64,
    }
    return [
        StudySettings(
            name="demo-dialogue",
            title="Talk with a small assistant",
            task="dialogue",
            instructions=DIALOGUE_INSTRUCTIONS,
            **shared,
        ),
        StudySettings(
            name="demo-ranking",
            title="Rank four replies",
            task="ranking",
            instructions=RANKING_INSTRUCTIONS,
            **shared,
        ),
        StudySettings(
            name="demo-vote",
            title="Which reply is better?",
            task="vote",
            instructions=VOTE_INSTRUCTIONS,
            **shared,
        ),
    ]


def _put_study(store: Store, settings: StudySettings, tasks: Sequence[AnyTask], *, by: str) -> None:
    try:
        study = studies.find_study(store, settings.name)
    except NotFoundError:
        study = studies.create_study(store, settings, by=by)
    if study.settings.snapshots != settings.snapshots:
        models = {"snapshots": settings.snapshots}
        kept = study.settings.model_copy(update=models)
        studies.change_study(store, study.id, kept, by=by)
    new = [NewItem(task=task, id=f"{settings.name}-{number}") for number, task in enumerate(tasks)]
    items.add_items(store, study.id, new, by=by)
    if study.state == "draft":
        studies.set_state(store, study.id, "open", by=by)


def find_quickstart(runs: Path) -> dict[str, str]:
    """The newest SFT and PPO models of a whole quickstart below `runs`; none if one is missing."""
    found: dict[str, str] = {}
    for path in sorted(runs.glob("*-*"), reverse=True):
        try:
            manifest = Manifest.read(path)
        except RunError:
            continue
        of_quickstart = "quickstart" in manifest.command and "--miniature" not in manifest.command
        whole = manifest.status == "complete" and (path / "model").is_dir()
        if of_quickstart and whole and manifest.stage in ("sft", "ppo") and not manifest.name:
            found.setdefault(manifest.stage, str(path))
    return found if len(found) == 2 else {}


def train(run: Callable[[Sequence[str]], dict[str, Any]], directory: Path) -> Mapping[str, str]:
    """Train two small models, or take those of last time; name → run directory.

    run: runs a hark command and returns its JSON.
    """
    done = run(["run", str(RECIPE), "--output", str(directory), "--json"])
    return {name: done["stages"][name]["run"] for name in TRAINED}
