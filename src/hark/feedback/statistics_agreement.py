"""Who agrees with whom, question by question: labelers, researchers, preference models, gold.

A label answers one or more questions, each at a level of measurement that decides how far apart two
answers are (`agreement.krippendorff_alpha`): choices are nominal, points of a scale ordinal. An
answer is about a subject, such as two candidates of an item, and answers of one subject are held
against each other. Live dialogues have no subject in common.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hark.feedback.agreement import Agreement, Level, krippendorff_alpha, percent_agreement
from hark.feedback.gold import HARMFUL_FROM, Gold, score
from hark.feedback.statistics_labels import Label, preferences

PREFERENCE = "preference"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldMark:
    """A label held against a known answer."""

    labeler: str
    item_id: str
    value: float
    """Share that is right, from 0 to 1."""


def opinions(labels: Iterable[Label]) -> list[Opinion]:
    """Every answer of every label that can be held against others'."""
    return [one for label in labels if label.counts for one in _opinions(label)]


def _opinions(label: Label) -> Iterator[Opinion]:
    answer, item = label.answer, label.item_id

    def said(question: str, level: Level, subject: Hashable, value: float) -> Opinion:
        return Opinion(question, level, subject, label.author, float(value))

    if label.kind != "comparison":
        for i, j, sign in preferences(label):
            yield said(PREFERENCE, "nominal", (item, i, j), sign)
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


def among(said: Iterable[Opinion], *, between: str) -> list[QuestionAgreement]:
    """Agreement of everyone who answered, question by question in the order they come."""
    units = defaultdict[tuple[str, Level], dict[Hashable, list[float]]](dict)
    for one in said:
        subjects = units[one.question, one.level]
        subjects.setdefault(one.subject, []).append(one.value)
    return [
        measured(between, question, level, list(subjects.values()))
        for (question, level), subjects in units.items()
    ]


def measured(
    between: str, question: str, level: Level, units: Sequence[Sequence[float]]
) -> QuestionAgreement:
    """Both coefficients of the same units."""
    return QuestionAgreement(
        between=between,
        question=question,
        level=level,
        percent=percent_agreement(units),
        alpha=krippendorff_alpha(units, level),
    )


def against(
    labelers: Iterable[Opinion], others: Iterable[Opinion], *, between: str
) -> list[QuestionAgreement]:
    """Each labeler's answer paired with what the others say of the same subject.

    Where the others disagree, what most of them say counts; where no answer has the most, none.
    """
    votes = defaultdict[tuple[str, Hashable], Counter[float]](Counter)
    for one in others:
        votes[one.question, one.subject][one.value] += 1
    units = defaultdict[tuple[str, Level], list[tuple[float, float]]](list)
    for one in labelers:
        pairs = units[one.question, one.level]
        ruling = _most_frequent(votes.get((one.question, one.subject), Counter()))
        if ruling is not None:
            pairs.append((one.value, ruling))
    return [measured(between, question, level, pairs) for (question, level), pairs in units.items()]


def _most_frequent(votes: Counter[float]) -> float | None:
    ranked = votes.most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def model_agreement(
    labels: Iterable[Label], model: str, scores: Mapping[str, float]
) -> QuestionAgreement:
    """Labelers' preferences paired with the order of a model's scores; labelers' ties left out.

    scores: candidate's id → score.
    """
    units: list[tuple[float, float]] = []
    for label in labels:
        known = [scores.get(name) for name in label.candidate_ids]
        for i, j, sign in preferences(label):
            ours, theirs = known[i], known[j]
            if sign and ours is not None and theirs is not None:
                units.append((float(sign), float((ours > theirs) - (ours < theirs))))
    return measured(f"labelers and {model}", PREFERENCE, "nominal", units)


def with_others(said: Iterable[Opinion]) -> dict[str, Agreement]:
    """For each labeler the share of pairs with others' answers to the same that are the same.

    Every pair of answers weighs the same.
    """
    subjects = defaultdict[tuple[str, Hashable], list[Opinion]](list)
    for one in said:
        subjects[one.question, one.subject].append(one)
    pairs, agreed, units = Counter[str](), Counter[str](), Counter[str]()
    for ours in subjects.values():
        counts = Counter(one.value for one in ours)
        for one in ours:
            pairs[one.author] += len(ours) - 1
            agreed[one.author] += counts[one.value] - 1
            units[one.author] += len(ours) > 1
    return {
        author: Agreement(
            value=agreed[author] / pairs[author] if pairs[author] else None,
            state="defined" if pairs[author] else "nothing to compare",
            units=units[author],
            values=pairs[author],
        )
        for author in pairs
    }


def gold_marks(
    labels: Iterable[Label], known: Mapping[str, tuple[str, Gold]], *, use: str = "gold"
) -> list[GoldMark]:
    """Every label of an item of this use, held against the item's known answer."""
    marks = []
    for label in labels:
        found = known.get(label.item_id)
        if found is None or found[0] != use or not label.counts:
            continue
        right = score(label.answer, found[1], label.candidate_ids)
        shares = [one for one in (right.preference, right.flags) if one is not None]
        if shares:
            value = sum(shares) / len(shares)
            marks.append(GoldMark(labeler=label.author, item_id=label.item_id, value=value))
    return marks


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
