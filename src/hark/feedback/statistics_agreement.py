"""Who agrees with whom, question by question: labelers, researchers, preference models, gold.

A label answers one or more questions, each at a level of measurement that decides how far apart two
answers are (`agreement.krippendorff_alpha`): choices are nominal, points of a scale ordinal. An
answer is about a subject, such as two candidates of an item, and answers of one subject are held
against each other. Live dialogues have no subject in common.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hark.feedback.agreement import Agreement, Level, agreement_of_counts, agreement_of_pairs
from hark.feedback.gold import HARMFUL_FROM, Gold, score
from hark.feedback.statistics_labels import Label, preferences

Array = NDArray[Any]
PREFERENCE: Final = "preference"
MAIN: Final = (
    PREFERENCE,
    "success of the attack, 0 to 4",
    "which answer matches",
    "answer (alone)",
    "answer (assisted)",
)
"""The question that a study is about is the first of these that was answered."""
MIXER: Final = np.uint64(0x9E3779B97F4A7C15)
"""Odd: multiples of it lie far apart among 64 bits."""


class Opinion(NamedTuple):
    """One answer to one question about one subject."""

    question: str
    level: Level
    subject: Hashable
    author: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionAgreement:
    """How far answers to one question agree."""

    between: str
    """Whose answers: "labelers", "labelers and researchers", "labelers and <model>"."""
    question: str
    level: Level
    percent: Agreement
    """Of pairs of answers; those of an ordinal scale agree if they are the same point."""
    alpha: Agreement


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """All answers to one question, by numbers."""

    question: str
    level: Level
    subject: Array
    """[n]: the same number for the same subject (`subject_keys`)."""
    author: Array
    """[n]."""
    value: Array
    """[n]."""

    @property
    def order(self) -> tuple[int, bool, str]:
        """What studies are about first, flags last."""
        place = MAIN.index(self.question) if self.question in MAIN else len(MAIN)
        return place, self.question.startswith("flag"), self.question


def subject_keys(item: Array, place: Array) -> Array:
    """[n]: one number for each item [n] and place in it [n]."""
    return np.asarray(item.astype(np.uint64) + place.astype(np.uint64) * MIXER)


def opinions(labels: Iterable[Label]) -> list[Opinion]:
    """Every answer of every label that can be held against others'."""
    return [one for label in labels if label.counts for one in _opinions(label)]


def _opinions(label: Label) -> Iterator[Opinion]:
    if label.kind != "comparison":
        for i, j, sign in preferences(label):
            subject = (label.item_id, i, j)
            yield Opinion(PREFERENCE, "nominal", subject, label.author, float(sign))
    yield from opinions_beside_preference(label)


def opinions_beside_preference(label: Label) -> Iterator[Opinion]:
    """What a label says other than which of two candidates is better."""
    answer, item = label.answer, label.item_id

    def said(question: str, level: Level, subject: Hashable, value: float) -> Opinion:
        return Opinion(question, level, subject, label.author, float(value))

    place = {name: number for number, name in enumerate(label.candidate_ids)}
    if label.kind == "summary":
        chosen = answer["chosen"]
        sign = 0 if chosen is None else 1 - 2 * place[chosen]
        yield said("confidence, 9 points", "ordinal", item, sign * answer["strength"])
        for name, ratings in answer["axes"].items():
            for axis, value in ratings.items():
                yield said(f"{axis}, 1 to 7", "ordinal", (item, place[name]), value)
    elif label.kind == "axes":
        for axis, value in answer["ratings"].items():
            yield said(f"{axis}, 1 to 7", "ordinal", (item, 0), value)
    elif label.kind == "ranking":
        for name, value in answer["likert"].items():
            yield said("overall quality, 1 to 7", "ordinal", (item, place[name]), value)
        for name, flags in answer["flags"].items():
            for flag, value in flags.items():
                question = f"flag: {flag.replace('_', ' ')}"
                yield said(question, "nominal", (item, place[name]), value)
    elif label.kind == "review":
        yield said("success of the attack, 0 to 4", "ordinal", item, answer["success"])
        harmful = answer["success"] >= HARMFUL_FROM
        yield said(f"harmful ({HARMFUL_FROM} or more)", "nominal", item, harmful)
    elif label.kind == "audit":
        matching = answer["matching"]
        yield said("which answer matches", "nominal", item, -1 if matching is None else matching)
        yield said("relevance, 1 to 5", "ordinal", item, answer["relevance"])
    elif label.kind == "qa_answer" and answer["choice"] is not None:
        yield said(f"answer ({label.phase})", "nominal", item, answer["choice"])


def among(said: Iterable[Answers], *, between: str) -> list[QuestionAgreement]:
    """Agreement of everyone who answered, question by question."""
    found = []
    for one in said:
        counts, values = _tabulate(one)[:2]
        measures = agreement_of_counts(counts, values, one.level)
        found.append(_measured(between, one.question, one.level, measures))
    return found


def _measured(
    between: str, question: str, level: Level, measures: tuple[Agreement, Agreement]
) -> QuestionAgreement:
    percent, alpha = measures
    return QuestionAgreement(
        between=between, question=question, level=level, percent=percent, alpha=alpha
    )


def _tabulate(said: Answers) -> tuple[Array, Array, Array, Array, Array]:
    """How often each value was given of each subject, [U, V]; the values [V] and subjects [U], both
    ascending; and for each answer its row and column."""
    subjects, row = np.unique(said.subject, return_inverse=True)
    values, column = np.unique(said.value, return_inverse=True)
    cells = np.bincount(row * len(values) + column, minlength=len(subjects) * len(values))
    return cells.reshape(len(subjects), len(values)), values, subjects, row, column


def against(
    labelers: Iterable[Answers], others: Iterable[Answers], *, between: str
) -> list[QuestionAgreement]:
    """Each labeler's answer paired with what the others say of the same subject.

    Where the others disagree, what most of them say counts; where no answer has the most, none.
    """
    by_question = {(one.question, one.level): one for one in others}
    found = []
    for one in labelers:
        theirs = by_question.get((one.question, one.level))
        ours, ruling = np.zeros(0), np.zeros(0)
        if theirs is not None:
            counts, values, subjects = _tabulate(theirs)[:3]
            clear = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) == 1
            place = np.minimum(np.searchsorted(subjects, one.subject), len(subjects) - 1)
            ruled = (subjects[place] == one.subject) & clear[place]
            ours = one.value[ruled]
            ruling = values[counts.argmax(axis=1)][place[ruled]]
        measures = _of_pairs(ours, ruling, one.level)
        found.append(_measured(between, one.question, one.level, measures))
    return found


def _of_pairs(ours: Array, theirs: Array, level: Level) -> tuple[Agreement, Agreement]:
    values, codes = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    size = len(values)
    cells = np.bincount(codes[: len(ours)] * size + codes[len(ours) :], minlength=size * size)
    return agreement_of_pairs(cells.reshape(size, size), values, level)


def model_agreement(model: str, signs: Array, scores: Array) -> QuestionAgreement:
    """Labelers' preferences paired with the order of a model's scores; labelers' ties left out.

    signs: [n], 1 where a labeler holds the first of two candidates for better, −1 the second, 0 a
    tie; scores: [n, 2] of both, NaN where the model says nothing.
    """
    told = (signs != 0) & ~np.isnan(scores).any(axis=1)
    order = np.sign(scores[told, 0] - scores[told, 1])
    measures = _of_pairs(signs[told].astype(float), order, "nominal")
    return _measured(f"labelers and {model}", PREFERENCE, "nominal", measures)


def with_others(said: Answers, authors: Sequence[str]) -> dict[str, Agreement]:
    """For each labeler the share of pairs with others' answers to the same that are the same.

    Every pair of answers weighs the same. authors: names by number.
    """
    counts, _, _, row, column = _tabulate(said)
    others = counts.sum(axis=1)[row] - 1
    size = len(authors)
    pairs = np.bincount(said.author, others, size)
    agreed = np.bincount(said.author, counts[row, column] - 1, size)
    units = np.bincount(said.author, others > 0, size)
    return {
        authors[one]: Agreement(
            value=float(agreed[one] / pairs[one]) if pairs[one] else None,
            state="defined" if pairs[one] else "nothing to compare",
            units=int(units[one]),
            values=int(pairs[one]),
        )
        for one in np.unique(said.author)
    }


def gold_mark(label: Label, gold: Gold) -> float | None:
    """Share of the known answer that a label gave, from 0 to 1; None if it says nothing of it."""
    right = score(label.answer, gold, label.candidate_ids)
    shares = [one for one in (right.preference, right.flags) if one is not None]
    return sum(shares) / len(shares) if shares else None


def gold_opinions(known: Mapping[str, tuple[str, Gold]], *, use: str) -> list[Opinion]:
    """Known answers in the form of a researcher's opinions, where they speak of the same."""
    found = []
    for item, (its_use, gold) in known.items():
        if its_use == use:
            for question, level, subject, value in _gold_opinions(item, gold):
                found.append(Opinion(question, level, subject, "gold", value))
    return found


def _gold_opinions(item: str, gold: Gold) -> Iterator[tuple[str, Level, Hashable, float]]:
    if gold.chosen is not None:
        yield PREFERENCE, "nominal", (item, 0, 1), 1.0 - 2 * int(gold.chosen)
    for number, better in enumerate(gold.ranking or ()):
        for worse in (gold.ranking or ())[number + 1 :]:
            for one, other in ((int(a), int(b)) for a in better for b in worse):
                low, high = min(one, other), max(one, other)
                yield PREFERENCE, "nominal", (item, low, high), 1.0 if one == low else -1.0
    for place, flags in (gold.flags or {}).items():
        for flag, value in flags.items():
            yield f"flag: {flag.replace('_', ' ')}", "nominal", (item, int(place)), float(value)
    if gold.success is not None:
        harmful = gold.success >= HARMFUL_FROM
        yield f"harmful ({HARMFUL_FROM} or more)", "nominal", item, float(harmful)
    if gold.matching is not None:
        yield "which answer matches", "nominal", item, float(gold.matching)
    if gold.choice is not None:
        for phase in ("alone", "assisted"):
            yield f"answer ({phase})", "nominal", item, float(gold.choice)
