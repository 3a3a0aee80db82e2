"""Whose labels an export leaves out: those named, those turned away, those who miss known answers.

People are told apart by pseudonym alone; a login that was given is looked up and goes no further.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, case, or_, select

from hark.errors import did_you_mean
from hark.feedback import accounts, events
from hark.feedback.refusals import FeedbackError, NotFoundError
from hark.feedback.statistics_agreement import gold_mark
from hark.feedback.statistics_labels import known_answers, label_of
from hark.feedback.studies import MemberState, Study
from hark.feedback.tables import events as events_table
from hark.feedback.tables import items, members, people


def pseudonyms_of(connection: Connection, study: Study, names: Sequence[str]) -> tuple[str, ...]:
    """The pseudonyms of labelers named by pseudonym, by id or by login, ascending.

    What is one's pseudonym and another's login is the pseudonym: that is what pages show.

    Raises: NotFoundError for one who neither takes part in the study nor has labelled in it.
    """
    found = set()
    theirs = select(members.c.person_id).where(members.c.study_id == study.id)
    authors = select(events_table.c.author).where(events_table.c.study_id == study.id).distinct()
    here = or_(people.c.id.in_(theirs), people.c.pseudonym.in_(authors))
    for name in names:
        login = _login_of(name)
        named = or_(people.c.pseudonym == name, people.c.id == name, people.c.login == login)
        as_shown = case((people.c.pseudonym == name, 0), (people.c.id == name, 1), else_=2)
        statement = select(people.c.pseudonym).where(here, named).order_by(as_shown)
        row = connection.execute(statement.limit(1)).one_or_none()
        if row is None:
            known = connection.execute(select(people.c.pseudonym).where(here)).scalars().all()
            close = did_you_mean(name, known)
            raise NotFoundError(
                f"study '{study.settings.name}' has no labeler '{name}'{close}; name them by "
                "pseudonym, login or id"
            )
        found.add(row.pseudonym)
    return tuple(sorted(found))


def _login_of(name: str) -> str:
    """A login as it is kept, if it can be one."""
    try:
        return accounts.normal_login(name)
    except FeedbackError:
        return name


def left_out_people(
    connection: Connection,
    study: Study,
    *,
    named: Collection[str],
    states: Collection[MemberState],
    minimum_gold_accuracy: float | None,
) -> dict[str, str]:
    """Pseudonym → why their labels are left out.

    named: pseudonyms; states: of the members whose labels are wanted. Who is no member, such as an
    annotator whose labels were imported, is wanted; so is who has done no gold item.
    """
    why = {}
    if minimum_gold_accuracy is not None:
        for name, accuracy in gold_accuracies(connection, study).items():
            if accuracy < minimum_gold_accuracy:
                why[name] = f"by labelers with a gold accuracy below {minimum_gold_accuracy:g}"
    rows = connection.execute(
        select(people.c.pseudonym, members.c.state)
        .join(members, members.c.person_id == people.c.id)
        .where(members.c.study_id == study.id)
    )
    for name, state in rows:
        if state not in states:
            said = "who were turned away" if state == "rejected" else f"whose state is '{state}'"
            why[name] = f"by labelers {said}"
    return why | dict.fromkeys(named, "by labelers who were named")


def gold_accuracies(connection: Connection, study: Study) -> dict[str, float]:
    """For each labeler the mean share of the known answers that they gave to gold items."""
    known = known_answers(connection, study.id, uses=("gold",))
    marks = defaultdict[str, list[float]](list)
    gold_items = select(items.c.id).where(items.c.study_id == study.id, items.c.use == "gold")
    kept = events.iterate(
        connection, study_id=study.id, kinds=events.LABELS, of_items=gold_items, current=True
    )
    for event in kept:
        label = label_of(event)
        if label.counts and label.item_id in known:
            mark = gold_mark(label, known[label.item_id][1])
            if mark is not None:
                marks[label.author].append(mark)
    return {name: sum(values) / len(values) for name, values in marks.items()}
