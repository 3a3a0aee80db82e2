"""Every candidate of a study with all that it answers, a row each that can be used alone.

So a preference model can score it, the best of several be kept (rejection sampling), or another
model be taught by it (distillation).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from hark.data.formats.judged import summary_query
from hark.feedback.assignment import steps_of
from hark.feedback.dialogues import dialogue_of, with_passage
from hark.feedback.events import Event
from hark.feedback.items import get_item
from hark.feedback.tables import candidates, items


def candidate_rows(connection: Connection, study_id: str) -> Iterator[dict[str, Any]]:
    """Plain values, in the order of the items; of a live dialogue turn by turn.

    `prompt` is what the candidate answers, as turns: of a live dialogue all that was said before
    it. `context_from` is the first of these turns that the model was still given (after a reset);
    it holds a question's passage too, as the model read it.
    """
    statement = (
        select(candidates, items.c.content, items.c.position)
        .join(items, items.c.id == candidates.c.item_id)
        .where(items.c.study_id == study_id)
        .order_by(
            items.c.position,
            candidates.c.assignment_id,
            candidates.c.turn,
            candidates.c.generation,
            candidates.c.place,
        )
    )
    rows = connection.execute(statement, execution_options={"yield_per": 500})
    for (item_id, assignment_id), group in itertools.groupby(
        rows, key=lambda row: (row.item_id, row.assignment_id)
    ):
        steps = [] if assignment_id is None else steps_of(connection, assignment_id)
        for row in group:
            prompt, context_from = _prompt(connection, row, item_id, steps)
            yield {
                "candidate": row.id,
                "item": item_id,
                "assignment": assignment_id,
                "turn": row.turn,
                "task": row.content,
                "prompt": prompt,
                "context_from": context_from,
                "text": row.body["text"],
                "snapshot": row.body.get("snapshot"),
                "sampling": row.body.get("sampling"),
                "finish": row.body.get("finish", "stop"),
            }


def _prompt(
    connection: Connection, row: Row[Any], item_id: str, steps: Sequence[Event]
) -> tuple[list[dict[str, str]], int]:
    task = row.content
    if row.assignment_id is not None:
        item = get_item(connection, item_id)
        live = dialogue_of(connection, item, row.assignment_id, _until(steps, row.turn))
        said, start = live.messages, live.context_from
        # A question's assistant has one response, which stands among the messages already.
        if said and said[-1].role == "assistant":
            said = said[:-1]
        given = with_passage(item.task, said[start:])
        return [one.to_json() for one in (*said[:start], *given)], start
    if task["kind"] == "summary":
        community = (task.get("community") or "").removeprefix("r/")
        text = summary_query(community, task.get("title") or "", task["post"])
        return [{"role": "user", "content": text}], 0
    return list(task.get("prompt") or ()), 0


def _until(steps: Sequence[Event], turn: int) -> list[Event]:
    """The steps up to the labeler's words of a turn, counted from 0."""
    words = [number for number, one in enumerate(steps) if one.kind == "message"]
    return list(steps[: words[turn] + 1]) if turn < len(words) else list(steps)
