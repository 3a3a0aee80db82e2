"""What is to be drawn: the responses of a turn that waits for models, or of an item.

Everything random is a function of what it is for and of the server's key, so that whoever draws
again after a crash asks the same models, and nobody else can tell which they are. Only the seeds of
the draws go on with each generation: the same ones would be cut off again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from hark.data.formats.judged import summary_query
from hark.feedback import studies
from hark.feedback.assignment import own_row, steps_of
from hark.feedback.chance import Chance, chance_of, display_order
from hark.feedback.dialogues import dialogue_of, with_passage
from hark.feedback.items import Item, candidates_of, get_item
from hark.feedback.records import Turn
from hark.feedback.refusals import ConflictError
from hark.feedback.store import Store
from hark.feedback.studies import StudySettings
from hark.feedback.tasks import AnyTask, QuestionTask, RankingTask, SummaryTask, VoteTask
from hark.web.live.endpoints import Wanted

RANKED_RESPONSES: Final = 4
"""Drawn for a ranking, where its study does not say; 4 to 9 in 2203.02155, section 3.4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTurn:
    """A turn of a live dialogue whose responses are to be drawn."""

    assignment_id: str
    item_id: str
    turn: int
    wanted: tuple[Wanted, ...]
    """In the order in which the candidates are kept."""
    order: tuple[int, ...]
    """Places of the candidates in the order shown."""

    def shown_at(self, place: int) -> int:
        """Where on the page the candidate of this place is."""
        return self.order.index(place)


def find_waiting_turn(store: Store, assignment_id: str, person_id: str) -> WaitingTurn:
    """The turn of an assignment that waits for models.

    Raises: NotFoundError for somebody else's; ConflictError if no turn waits, or the study names
    no snapshots.
    """
    chance = chance_of(store)
    with store.read() as connection:
        row = own_row(connection, assignment_id, person_id)
        item = get_item(connection, row.item_id)
        if not item.task.live:
            raise ConflictError("no model answers in this task")
        live = dialogue_of(connection, item, assignment_id, steps_of(connection, assignment_id))
        if not live.waits_for_models or row.state in ("done", "skipped"):
            raise ConflictError("nothing waits for a model here: load the page again")
        settings = studies.get_study(connection, item.study_id).settings
        _, generation = candidates_of(connection, item.id, assignment_id, live.turn)
    if not settings.snapshots:
        raise ConflictError("no model answers in this study: its owner names none in `snapshots`")
    what = f"{assignment_id} {live.turn}"
    messages = with_passage(item.task, live.messages[live.context_from :])
    count = 1 if isinstance(item.task, QuestionTask) else 2
    return WaitingTurn(
        assignment_id=assignment_id,
        item_id=item.id,
        turn=live.turn,
        wanted=_wanted(chance, settings, messages, count, what, generation=generation + 1),
        order=tuple(display_order(chance, row, live.turn, count)),
    )


def wanted_of_item(
    chance: Chance, settings: StudySettings, item: Item, *, generation: int
) -> tuple[Wanted, ...]:
    """The responses that an item which is not live waits for: of different snapshots as long as
    there are any, then of the same ones again.

    generation: how often they were drawn before.
    """
    count = item.task.candidate_counts[0]
    if isinstance(item.task, RankingTask):
        count = settings.ranked_responses or RANKED_RESPONSES
    messages = messages_of(item.task)
    return _wanted(chance, settings, messages, count, item.id, generation=generation)


def messages_of(task: AnyTask) -> tuple[Turn, ...]:
    """What a model is asked in a task that is not live."""
    if isinstance(task, SummaryTask):
        query = summary_query(task.community.removeprefix("r/"), task.title, task.post)
        return (Turn(role="user", content=query),)
    assert isinstance(task, RankingTask | VoteTask)
    return task.prompt


def draw_snapshots(chance: Chance, snapshots: tuple[str, ...], count: int, what: str) -> list[str]:
    """Which snapshots answer: different ones as long as there are any, in random order.

    what: the draw is a function of it.
    """
    rng = chance.generator("snapshots", what)
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += rng.sample(snapshots, min(len(snapshots), count - len(drawn)))
    rng.shuffle(drawn)
    return drawn


def _wanted(
    chance: Chance,
    settings: StudySettings,
    messages: tuple[Turn, ...],
    count: int,
    what: str,
    *,
    generation: int,
) -> tuple[Wanted, ...]:
    root = settings.sampling.seed or 0
    snapshots = draw_snapshots(chance, settings.snapshots, count, what)
    return tuple(
        Wanted(
            snapshot=snapshot,
            messages=messages,
            sampling=settings.sampling.model_copy(
                update={"seed": _seed(f"{root} {what} {generation} {place}")}
            ),
            maximum_tokens=settings.max_response_tokens,
        )
        for place, snapshot in enumerate(snapshots)
    )


def _seed(what: str) -> int:
    """31 bits, which every server takes."""
    return int.from_bytes(hashlib.blake2b(what.encode(), digest_size=4).digest()) >> 1
