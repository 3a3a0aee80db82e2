"""Ranked texts of the public kind as comparisons, for preference-model pretraining.

Askell et al. (2112.00861): answers to one question ordered by their votes, and edits,
where a text that was restored is better than one that was reverted.

Binarised, a pair A ≻ B becomes two comparisons: GOOD:A ≻ BAD:A and BAD:B ≻ GOOD:B. The model then
learns to say of one text whether it is good, which carries over better than the order of two.

1. All pairs of a question whose scores differ are kept unless `pairs_per_question` says less; the
   paper does not say how many it takes. Ranked, they are one comparison of all answers.
2. The control prefixes are the words themselves, no tokens of their own: any tokenizer will do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hark.data.files import Paths, expand_paths
from hark.data.formats import write_comparisons
from hark.data.formats.fields import BadRecordError, checked_text, describe, dialogue, text
from hark.data.records import Comparison, Dialogue, ask, chosen_and_rejected
from hark.data.rows import Fields, iterate_rows
from hark.errors import DataError

GOOD, BAD = "GOOD:", "BAD:"


@dataclass(frozen=True, slots=True, kw_only=True)
class VotedAnswer:
    """One answer and what people thought of it."""

    text: str
    votes: int
    """Up less down; what some sites call the score."""
    accepted: bool = False
    """Whether the asker chose it."""

    @property
    def score(self) -> int:
        """Its place in the order of the question's answers."""
        return vote_score(self.votes, accepted=self.accepted)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredQuestion:
    """A question with its answers."""

    prompt: Dialogue
    answers: tuple[VotedAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Two versions of a text, one of which was taken back."""

    prompt: Dialogue
    """What the text is of."""
    restored: str
    """The version that stayed."""
    reverted: str


def vote_score(votes: int, *, accepted: bool = False) -> int:
    """round(log₂(1 + upvotes)), plus 1 if accepted, less 1 if the votes are negative.

    Askell et al.: differences in the order of magnitude of votes, not in the votes.
    """
    return round(math.log2(1 + max(votes, 0))) + accepted - (votes < 0)


def ranking(question: AnsweredQuestion) -> Comparison | None:
    """All answers by score, equal scores tied; None if fewer than two scores differ."""
    scores = [answer.score for answer in question.answers]
    order = sorted(set(scores), reverse=True)
    if len(order) < 2:
        return None
    return Comparison(
        prompt=question.prompt,
        responses=tuple(answer.text for answer in question.answers),
        ranks=tuple(order.index(score) + 1 for score in scores),
    )


def pairs(comparison: Comparison) -> list[Comparison]:
    """Every ordered pair of a ranking, the better text first."""
    return [
        chosen_and_rejected(comparison.prompt, comparison.responses[i], comparison.responses[j])
        for i, j in comparison.ordered_pairs()
    ]


def binarised(pair: Comparison) -> tuple[Comparison, Comparison]:
    """GOOD:A ≻ BAD:A and BAD:B ≻ GOOD:B of a pair A ≻ B."""
    (order,) = pair.ordered_pairs()
    better, worse = (pair.responses[i] for i in order)
    return (
        chosen_and_rejected(pair.prompt, GOOD + better, BAD + better),
        chosen_and_rejected(pair.prompt, BAD + worse, GOOD + worse),
    )


def unbinarised(comparison: Comparison) -> tuple[str, bool]:
    """The text that a binarised comparison is about, and whether it is called good.

    Raises: DataError if it is none.
    """
    chosen, rejected = comparison.responses
    for first, second in ((GOOD, BAD), (BAD, GOOD)):
        said = chosen.removeprefix(first)
        if chosen.startswith(first) and rejected == second + said:
            return said, first == GOOD
    raise DataError(
        f"'{chosen[:40]}' and '{rejected[:40]}' are not one text after '{GOOD}' and '{BAD}'"
    )


def ranked_comparisons(
    records: Iterable[AnsweredQuestion | Edit],
    *,
    binarise: bool = False,
    pairs_per_question: int | None = None,
    seed: int = 0,
) -> Iterator[Comparison]:
    """Comparisons of ranked texts; questions whose answers all score alike give none.

    pairs_per_question: take so many pairs of each, at random; binarised, each makes two.
    """
    for number, record in enumerate(records):
        whole = _judged(record)
        if whole is None:
            continue
        if not binarise and pairs_per_question is None:
            yield whole
            continue
        chosen = pairs(whole)
        if pairs_per_question is not None and len(chosen) > pairs_per_question:
            chosen = random.Random(f"{seed}/ranked/{number}").sample(chosen, pairs_per_question)
        for pair in chosen:
            yield from binarised(pair) if binarise else (pair,)


def _judged(record: AnsweredQuestion | Edit) -> Comparison | None:
    if isinstance(record, AnsweredQuestion):
        return ranking(record)
    if record.restored == record.reverted:
        return None
    return chosen_and_rejected(record.prompt, record.restored, record.reverted)


def read_ranked(paths: Paths) -> list[AnsweredQuestion | Edit]:
    """Questions with voted answers, or edits, one a row.

    `{"question": "…", "answers": [{"text": "…", "votes": 3, "accepted": true}, …]}` or
    `{"prompt": "…", "restored": "…", "reverted": "…"}`; a question or prompt may be messages.
    Raises: DataError at the first row that is neither, with its place.
    """
    found = []
    for source in expand_paths(paths):
        for row in iterate_rows(source):
            if row.fields is None:
                raise DataError(f"{row.where}: {row.problem}")
            try:
                found.append(_record(row.fields))
            except BadRecordError as error:
                raise DataError(f"{row.where}: {error}") from None
    return found


def question_row(question: AnsweredQuestion) -> Fields:
    """The form in which `read_ranked` reads a question of one turn back."""
    return {
        "question": question.prompt[-1].content,
        "answers": [
            {"text": each.text, "votes": each.votes, "accepted": each.accepted}
            for each in question.answers
        ],
    }


def _record(row: Fields) -> AnsweredQuestion | Edit:
    if "answers" in row:
        return AnsweredQuestion(prompt=_prompt(row, "question"), answers=_answers(row["answers"]))
    if "restored" not in row and "reverted" not in row:
        raise BadRecordError("has neither 'answers' with votes nor 'restored' and 'reverted'")
    return Edit(
        prompt=_prompt(row, "prompt"),
        restored=text(row, "restored"),
        reverted=text(row, "reverted"),
    )


def _prompt(row: Fields, name: str) -> Dialogue:
    if isinstance(row.get(name), list):
        return dialogue(row[name], name)
    return ask(text(row, name))


def _answers(value: object) -> tuple[VotedAnswer, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < 2:
        raise BadRecordError(f"'answers' is {describe(value)}, not a list of two answers or more")
    return tuple(_answer(each, f"answers[{place}]") for place, each in enumerate(value))


def _answer(value: object, name: str) -> VotedAnswer:
    if not isinstance(value, dict):
        raise BadRecordError(f"'{name}' is {describe(value)}, not an object")
    votes, accepted = value.get("votes"), value.get("accepted", False)
    if isinstance(votes, bool) or not isinstance(votes, int):
        raise BadRecordError(f"'{name}.votes' is {describe(votes)}, not a whole number")
    if not isinstance(accepted, bool):
        raise BadRecordError(f"'{name}.accepted' is {describe(accepted)}, not true or false")
    return VotedAnswer(
        text=checked_text(value.get("text"), f"{name}.text"), votes=votes, accepted=accepted
    )


@dataclass(frozen=True, kw_only=True)
class RankedTexts:
    """What was made of ranked texts."""

    read: int
    """Questions and edits."""
    left_out: int
    """Those whose texts all score alike."""
    written: int
    """Comparisons."""


def write_ranked(
    source: Paths,
    destination: Path,
    *,
    binarise: bool = False,
    pairs_per_question: int | None = None,
    seed: int = 0,
) -> RankedTexts:
    """Read ranked texts and write their comparisons.

    Raises: DataError if the destination is there already, a row cannot be read, or no two texts of
    any question score differently.
    """
    if destination.exists():
        raise DataError(f"'{destination}' exists already; name another file")
    records = read_ranked(source)
    told = [record for record in records if _judged(record) is not None]
    if not told:
        raise DataError(
            f"none of {len(records)} questions has answers of different scores: nothing is better "
            "than anything else; give questions with votes that differ by a factor of two"
        )
    made = ranked_comparisons(
        told, binarise=binarise, pairs_per_question=pairs_per_question, seed=seed
    )
    written = write_comparisons(destination, made)
    return RankedTexts(read=len(records), left_out=len(records) - len(told), written=written)
