"""The stage `items`: snapshots answer prompts, side by side, as items of a study.

Each item has responses of different snapshots as long as there are any, then of the same ones
again, drawn by lot for the item; `hark feedback create --items` and the API read the file.
"""

from __future__ import annotations

import collections
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hark.data.formats import read_prompts
from hark.data.records import Dialogue
from hark.errors import DataError
from hark.loop.inputs import data_files, model_files, read_examples, read_files
from hark.loop.judges import scorer
from hark.loop.speaker import (
    AnySpeaker,
    Reply,
    SpeakerSettings,
    load_speaker,
    sampling_seed,
)
from hark.models.generation import SamplingSettings
from hark.models.processes import is_first
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings
from hark.training.examples import Paths

ID_CHARACTERS = 16


class ItemsSettings(DataStageSettings):
    """Let snapshots answer prompts, as items that people vote on or rank."""

    snapshots: dict[str, SpeakerSettings]
    """Name of each snapshot, as labels will have it, to its model and how it is asked."""
    data: Paths
    """Files of prompts."""
    task: Literal["vote", "ranking"] = "vote"
    """What is asked of people: which of two is better, or an order of several."""
    responses: int = Field(default=2, ge=2, le=9)
    """K, the responses of an item; 2 for votes, and 4 to 9 for the rankings of InstructGPT."""
    start: int = Field(default=0, ge=0)
    """The first prompt taken; after the last comes the first again."""
    limit: int | None = Field(default=None, ge=1)
    """Take only so many prompts."""
    scorer: str | None = None
    """What the best of N goes by: a preference model, module:function, or a named scorer."""
    rows: int = Field(default=64, ge=1)
    """Replies written at once; the samples do not depend on it."""
    sampling: SamplingSettings = SamplingSettings()
    """How tokens are drawn, for every snapshot."""

    @model_validator(mode="after")
    def _responses_fit(self) -> Self:
        if not self.snapshots:
            raise ValueError("snapshots: name at least one model to answer")
        if self.task == "vote" and self.responses != 2:
            raise ValueError(f"a vote is between 2 responses, not {self.responses}; use a ranking")
        best = [name for name, one in self.snapshots.items() if one.best_of > 1]
        if best and self.scorer is None:
            raise ValueError(f"snapshot '{best[0]}' is a best-of-N, which needs a scorer")
        if self.scorer is not None and not best:
            raise ValueError("scorer would be ignored: no snapshot is a best-of-N")
        return self


def items_inputs(settings: ItemsSettings) -> list[Path]:
    """Files and directories whose contents decide the result."""
    named = [one.model for one in settings.snapshots.values()]
    named += [settings.scorer] if settings.scorer else []
    examples = [path for one in settings.snapshots.values() for path in one.examples]
    found = [path for name in named for path in model_files(name)]
    data = [path for each in (*examples, *settings.data) for path in data_files(str(each))]
    return list(dict.fromkeys([*found, *data]))


def run_items(settings: ItemsSettings, run: Run) -> dict[str, Any]:
    """Write `data/items.jsonl`.

    An item whose responses are not all whole, or not all different, could not be judged; it is left
    out and counted.
    """
    # Imported here: whoever trains should not wait for a database's library.
    from hark.feedback.chance import Chance
    from hark.feedback.items import NewItem
    from hark.web.live.turns import draw_snapshots

    prompts = _prompts(settings, run)
    turns = [[{"role": one.role, "content": one.content} for one in each] for each in prompts]
    ids = [_id(settings, place, each) for place, each in enumerate(turns)]
    # No secret: the order that labelers see is the server's own.
    chance, names = Chance(f"items {settings.seed}"), tuple(settings.snapshots)
    drawn = [draw_snapshots(chance, names, settings.responses, one) for one in ids]
    replies = _replies(settings, prompts, drawn, run)
    left_out: collections.Counter[str] = collections.Counter()
    rows: list[dict[str, Any]] = []
    for place, item_id in enumerate(ids):
        own = [replies[place, seat] for seat in range(settings.responses)]
        if reason := _why_unvotable(own):
            left_out[reason] += 1
            continue
        candidates = [
            _candidate(reply, name, settings) for reply, name in zip(own, drawn[place], strict=True)
        ]
        task = {"kind": settings.task, "prompt": turns[place]}
        rows.append({"id": item_id, "task": task, "candidates": candidates})
    if not rows:
        reasons = "; ".join(f"{count} {why}" for why, count in left_out.items())
        raise DataError(f"none of {len(prompts)} items can be judged ({reasons})")
    for row in rows:
        NewItem.read(row, what="item")
    if is_first():
        path = run.data_path("items.jsonl")
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return {
        "items": len(rows),
        "prompts": len(prompts),
        "left_out": dict(left_out),
        "snapshots": list(settings.snapshots),
        "path": str(run.path / "data" / "items.jsonl"),
    }


def _prompts(settings: ItemsSettings, run: Run) -> list[Dialogue]:
    read = [each.prompt for each in read_files(read_prompts, settings.data, settings, run)]
    first = settings.start % len(read)
    return [*read[first:], *read[:first]][: settings.limit]


def _id(settings: ItemsSettings, place: int, turns: Sequence[Mapping[str, str]]) -> str:
    said = json.dumps([settings.seed, settings.start, place, turns], ensure_ascii=False)
    return hashlib.sha256(said.encode()).hexdigest()[:ID_CHARACTERS]


def _replies(
    settings: ItemsSettings,
    prompts: Sequence[Dialogue],
    drawn: Sequence[Sequence[str]],
    run: Run,
) -> dict[tuple[int, int], Reply]:
    """(item, place) → what the snapshot drawn for it replied; each model is loaded once."""
    score = scorer(settings.scorer, device=settings.device) if settings.scorer else None
    found: dict[tuple[int, int], Reply] = {}
    for name, asked in settings.snapshots.items():
        places = [
            (place, seat)
            for place, names in enumerate(drawn)
            for seat, one in enumerate(names)
            if one == name
        ]
        if not places:
            continue
        speaker: AnySpeaker = load_speaker(
            asked, sampling=settings.sampling,
            examples=read_examples(asked.examples, settings, run),
            score=score if asked.best_of > 1 else None,
            rows=settings.rows, device=settings.device, dtype=settings.dtype,
        )  # fmt: skip
        own = [prompts[place] for place, _ in places]
        told = speaker.reply(own, seed=sampling_seed(settings.seed, name), label=name)
        found.update(zip(places, told, strict=True))
    return found


def _why_unvotable(replies: Sequence[Reply]) -> str:
    if any(reply.finish == "length" for reply in replies):
        return "with a response that was cut off"
    if any(not reply.text.strip() for reply in replies):
        return "with a blank response"
    if len({reply.text for reply in replies}) < 2:
        return "with responses that are all the same"
    return ""


def _candidate(reply: Reply, snapshot: str, settings: ItemsSettings) -> dict[str, Any]:
    sampling = {
        "temperature": settings.sampling.temperature,
        "top_p": settings.sampling.top_p,
        "best_of": settings.snapshots[snapshot].best_of,
    }
    return {"text": reply.text, "snapshot": snapshot, "sampling": sampling}
