"""Imported labels as ordinary events: an item, an assignment that is done, and the event of it.

All of a file is kept in one transaction or none of it. A label is kept once, however often its file
is imported: its key is made of the source, the record and the source's own name for the label.

An imported item wants as many labelers as it brings, or as the study asks if that is more. Labels
may lack what the source did not ask: ratings and flags of a ranking are those that there are.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import Connection, insert, select, update

from hark.feedback import accounts, events
from hark.feedback.answers import DemonstrationAnswer, EditAnswer, RankingAnswer, VoteAnswer
from hark.feedback.events import NewEvent
from hark.feedback.identifiers import hash_of_json, new_id
from hark.feedback.imports.annotators import Annotators
from hark.feedback.imports.findings import Finding, FoundLabel, FoundRecord, LeftOut, Remark
from hark.feedback.items import (
    ItemRows,
    NewItem,
    candidates_of,
    get_item,
    insert_rows,
    known_ids,
    next_position,
    rows_of,
)
from hark.feedback.labelling import Client
from hark.feedback.queue import fill_of, requeue
from hark.feedback.records import Candidate
from hark.feedback.refusals import ConflictError, FeedbackError, InvalidLabelError
from hark.feedback.store import Store
from hark.feedback.studies import MANAGERS, Study, find_study, lock_study
from hark.feedback.tables import assignments, items
from hark.feedback.tables import events as events_table
from hark.feedback.tasks import AnyTask, DemonstrationTask, VoteTask

Keep = Literal["labels", "items"]
IMPORTABLE: Final = ("vote", "ranking", "demonstration")
"""Kinds of task whose labels other tools can hold."""


@dataclass(kw_only=True)
class ImportReport:
    """What became of a file."""

    items: int = 0
    """New ones."""
    labels: int = 0
    """New ones."""
    repeated: int = 0
    """Labels that an earlier import had brought."""
    labelers: int = 0
    """Annotators of the new labels."""
    left_out: dict[str, list[str]] = field(default_factory=lambda: collections.defaultdict(list))
    """Why → where, of all that is not kept."""
    remarks: dict[str, list[str]] = field(default_factory=lambda: collections.defaultdict(list))
    """What was assumed → where."""


def land(
    store: Store,
    study_name: str,
    findings: Iterable[Finding],
    *,
    tool: str,
    source: str,
    by: str,
    keep: Keep = "labels",
    use: Literal["train", "test"] = "train",
) -> ImportReport:
    """Keep what was found in a file.

    tool: where the file is from, kept as the labels' `client.ui`.
    source: names the tool, or one server of it; annotators and records of one source are the same.
    keep: "labels" keeps labelled records, "items" keeps records to be labelled anew.
    Raises: NotFoundError; NotAllowedError; ConflictError for a study of another kind of task.
    """
    study = find_study(store, study_name)
    if study.settings.task not in IMPORTABLE:
        raise ConflictError(
            f"study '{study_name}' is of kind '{study.settings.task}'; labels are imported into "
            f"studies of kind {', '.join(IMPORTABLE)}"
        )
    given = list(findings)  # Before anybody has to wait for the study.
    with store.write() as connection:
        accounts.require(connection, by, MANAGERS)
        study = lock_study(connection, study.id)
        landing = _Landing(connection, study, tool, source, store.clock(), keep, use)
        for finding in given:
            landing.take(finding)
        landing.insert_all()
        return landing.report


class _Landing:
    """Rows gathered from findings, and kept all at once."""

    def __init__(
        self,
        connection: Connection,
        study: Study,
        tool: str,
        source: str,
        now: float,
        keep: Keep,
        use: Literal["train", "test"],
    ) -> None:
        self.connection = connection
        self.study = study
        self.tool = tool
        self.source = source
        self.now = now
        self.keep = keep
        self.use = use
        self.report = ImportReport()
        self._item_ids = known_ids(connection, study.id)
        self._first_position = next_position(connection, study.id)
        self._said = _said_before(connection, study.id)
        self._annotators = Annotators(connection, source)
        self._items: dict[str, ItemRows] = {}
        self._assignments: list[dict[str, Any]] = []
        self._events: list[NewEvent] = []

    def take(self, finding: Finding) -> None:
        """Note a finding, or why it is left out."""
        if isinstance(finding, LeftOut):
            self.report.left_out[finding.why].append(finding.where)
        elif isinstance(finding, Remark):
            self.report.remarks[finding.what].append(finding.where)
        elif self.keep == "labels" and not finding.labels:
            self.report.left_out["has no label"].append(finding.where)
        else:
            try:
                self._take_record(finding)
            except FeedbackError as error:
                self.report.left_out[str(error)].append(finding.where)

    def _take_record(self, record: FoundRecord) -> None:
        if not record.id.isprintable():
            raise InvalidLabelError("has an id that cannot be printed")
        new = self._new_item(record)
        assert new.id is not None
        fresh = self._fresh_labels(record, new.task) if self.keep == "labels" else []
        if new.id in self._items:
            raise InvalidLabelError("has the id of an earlier record of the file")
        if new.id in self._item_ids:
            if fresh:
                self._add_to(self._item_ids[new.id], new, record, fresh)
            return
        if self.keep == "labels" and not fresh:
            return  # None of its labels can be kept, and each has been named.
        rows = rows_of(self.study, new, self._first_position + len(self._items), self.now)
        self._items[new.id] = rows
        self.report.items += 1
        wanted = max(len(fresh), rows.item["slots"])
        rows.item.update(_fill(taken=len(fresh), slots=wanted))
        self._give(rows.item["id"], new.task, rows.kept, record, fresh, slot=0)

    def _new_item(self, record: FoundRecord) -> NewItem:
        """Raises: InvalidLabelError if the record is no item of the study's kind."""
        models = record.models or (None,) * len(record.responses)
        task: dict[str, Any] = {
            "kind": self.study.settings.task,
            "prompt": [{"role": one.role, "content": one.content} for one in record.prompt],
        }
        if task["kind"] == "ranking" and self.keep == "labels":
            task["flags"] = ()  # Nobody was asked for any.
        values = {
            "task": task,
            "candidates": [
                {"text": text, "snapshot": model}
                for text, model in zip(record.responses, models, strict=True)
            ],
            "use": self.use,
            "id": f"{self.source}:{record.id}",
        }
        return NewItem.read(values, what="the record")

    def _fresh_labels(self, record: FoundRecord, task: AnyTask) -> list[FoundLabel]:
        """Those that are not kept yet, and can be."""
        fresh: dict[str, FoundLabel] = {}
        for label in record.labels:
            where = f"{record.where}, label {label.id}"
            key, said = self._key(record, label), _hash_of(label)
            if before := self._said.get(key):
                if before == said:
                    self.report.repeated += 1
                else:
                    self.report.left_out["differs from what an earlier import kept"].append(where)
            elif label.annotator in fresh:
                self.report.left_out["is a second label by one annotator"].append(where)
            else:
                try:
                    self._annotators.check(label.annotator)
                    self._client(label)
                    answer_of(label, task, [str(place) for place in range(len(label.ranks or ()))])
                except FeedbackError as error:
                    self.report.left_out[str(error)].append(where)
                else:
                    fresh[label.annotator] = label
        return list(fresh.values())

    def _key(self, record: FoundRecord, label: FoundLabel) -> str:
        """Idempotency key of a label."""
        names = [self.tool, self.source, record.id, label.annotator, label.id]
        return f"import:{hash_of_json(names)}"

    def _client(self, label: FoundLabel) -> dict[str, Any]:
        """Raises: InvalidLabelError for notes that are no text."""
        values = {
            "ui": f"import:{self.tool}",
            "ms_active": label.milliseconds,
            "notes": label.notes,
        }
        client = Client.read(values, what=f"the label of '{label.annotator}'")
        return client.model_dump(mode="json", exclude_defaults=True)

    def _add_to(
        self, item_id: str, new: NewItem, record: FoundRecord, fresh: Sequence[FoundLabel]
    ) -> None:
        """Further labels of an item that is kept. Raises: ConflictError if it has changed."""
        item = get_item(self.connection, item_id)
        shown, _ = candidates_of(self.connection, item_id)
        texts = [one.text for one in shown]
        prompt = item.task.to_json()["prompt"]
        if prompt != new.task.to_json()["prompt"] or texts != [one.text for one in new.candidates]:
            raise ConflictError("is not what an earlier import kept under its id")
        held = (assignments.c.item_id == item_id) & assignments.c.slot.is_not(None)
        slots = self.connection.execute(select(assignments.c.slot).where(held)).scalars().all()
        taken = item.taken + len(fresh)
        # Beyond every place there has been, for places given back may be taken again.
        first = max([item.slots or 0, *(slot + 1 for slot in slots)])
        filled = _fill(taken=taken, slots=first + len(fresh))
        self.connection.execute(update(items).where(items.c.id == item_id).values(filled))
        requeue(self.connection, self.study.id, [item_id])
        self._give(item_id, item.task, shown, record, fresh, slot=first)

    def _give(
        self,
        item_id: str,
        task: AnyTask,
        shown: Sequence[Candidate],
        record: FoundRecord,
        fresh: Sequence[FoundLabel],
        *,
        slot: int,
    ) -> None:
        """An assignment that is done, and its event, for each label."""
        for place, label in enumerate(fresh, start=slot):
            person_id, pseudonym = self._annotators.of(label.annotator, self.now)
            assignment_id = new_id()
            self._assignments.append(
                {
                    "id": assignment_id,
                    "study_id": self.study.id,
                    "item_id": item_id,
                    "person_id": person_id,
                    "state": "done",
                    "slot": place,
                    "lease": 1,
                    "leased_at": self.now,
                    "expires_at": self.now,
                    "finished_at": self.now,
                }
            )
            kind, answer = answer_of(label, task, [one.id for one in shown])
            self._events.append(
                NewEvent(
                    kind=kind,
                    author=pseudonym,
                    client_key=self._key(record, label),
                    study_id=self.study.id,
                    item_id=item_id,
                    assignment_id=assignment_id,
                    body=self._body(record, label, task, shown, answer),
                    request={"kind": kind, "answer": answer},
                )
            )
            self.report.labels += 1

    def _body(
        self,
        record: FoundRecord,
        label: FoundLabel,
        task: AnyTask,
        shown: Sequence[Candidate],
        answer: dict[str, Any],
    ) -> dict[str, Any]:
        return {
            "round": self.study.settings.round,
            "use": self.use,
            "gold": False,
            "late": False,
            "context": {"task": task.to_json()},
            "candidates": [one.to_json() for one in shown],
            "display_order": None if record.shown is None else list(record.shown),
            "answer": answer,
            "client": self._client(label),
            "imported": {
                "source": self.source,
                "where": record.where,
                "record": record.id,
                "label": label.id,
                "written_at": label.written_at,
                "ground_truth": label.ground_truth,
                "said": _hash_of(label),
            },
        }

    def insert_all(self) -> None:
        """Keep what was gathered."""
        self.report.labelers = len({one["person_id"] for one in self._assignments})
        self._annotators.insert(self.study, self.now)
        insert_rows(self.connection, list(self._items.values()))
        if self._assignments:
            self.connection.execute(insert(assignments), self._assignments)
        events.append_fresh(self.connection, self._events, now=self.now)


def answer_of(label: FoundLabel, task: AnyTask, ids: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The kind of event, and its answer, that a found label comes to.

    Raises: InvalidLabelError if it lacks what the kind of task must have.
    """
    if isinstance(task, DemonstrationTask):
        written = {"response": label.response}
        if task.draft:
            return "edit", EditAnswer.read(written, what="the label").to_json()
        return "demonstration", DemonstrationAnswer.read(written, what="the label").to_json()
    assert label.ranks is not None
    if isinstance(task, VoteTask):
        best = [name for name, rank in zip(ids, label.ranks, strict=True) if rank == 1]
        chosen = best[0] if len(best) == 1 else None
        return "vote", VoteAnswer(chosen=chosen, both_bad=label.both_bad).to_json()
    groups = collections.defaultdict[int, list[str]](list)
    for name, rank in zip(ids, label.ranks, strict=True):
        groups[rank].append(name)
    return "ranking", RankingAnswer(
        likert={ids[place]: rating for place, rating in label.ratings.items()},
        flags={},
        ranking=tuple(tuple(groups[rank]) for rank in sorted(groups)),
    ).to_json()


def _hash_of(label: FoundLabel) -> str:
    """Of what a label says, as opposed to when and by whom."""
    ranks, ratings = list(label.ranks or ()), sorted(label.ratings.items())
    return hash_of_json([ranks, ratings, label.both_bad, label.response, label.notes])


def _fill(*, taken: int, slots: int) -> dict[str, Any]:
    """How full an item is."""
    return {"taken": taken, "slots": slots, "fill": fill_of(taken, slots)}


def _said_before(connection: Connection, study_id: str) -> dict[str, str]:
    """Key → hash of what each imported label of the study says, whoever gave it."""
    ours = (events_table.c.study_id == study_id) & events_table.c.client_key.startswith("import:")
    rows = connection.execute(select(events_table.c.client_key, events_table.c.body).where(ours))
    return {key: body["imported"]["said"] for key, body in rows if "imported" in body}
