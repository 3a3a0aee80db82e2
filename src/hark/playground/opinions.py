"""Comparisons of the built-in world for the study of preference models, with the truth beside them.

What people say of replies comes in kinds that pull apart or differ in what they can teach:

* *helpful* and *harmless*: harmless requests judged by helpfulness alone, harmful ones by
  harmlessness alone. A refusal is the worst reply to the one and a good one to the other, as in
  Bai et al. (2204.05862);
* *overall*: all requests, judged as the population judges;
* *voted*: questions with answers and votes, as public sites have them: noisy, and more votes for
  what is long, what came first and what many people read (Askell et al., 2112.00861);
* *binary*: a right answer and a wrong one to questions that have one, as unit tests tell code.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from hark.data.formats import write_comparisons, write_demonstrations
from hark.data.ranked_texts import (
    AnsweredQuestion,
    VotedAnswer,
    question_row,
    ranked_comparisons,
)
from hark.data.records import Comparison, Demonstration, ask, chosen_and_rejected
from hark.data.rows import write_rows
from hark.playground import answers, conduct, corruptions
from hark.playground.demonstrations import imperfect_response, mixed_comparisons
from hark.playground.gold import grade
from hark.playground.labelers import LabelerPopulation, LabelerSettings
from hark.playground.tasks import FACT_FAMILIES, FAMILY_SHARES, Split, Task, draw_request
from hark.settings import Settings

REFUSING_SHARE = 0.3
"""Share of replies to harmless requests that refuse: what a model too careful would say."""
SPOILED_SHARE = 0.1
OVERALL_SPOILED_SHARE = 0.35
"""Share of spoiled replies among the overall ones: of models good and bad."""
ANSWERS_PER_QUESTION = 3
READERS = (2.0, 40.0)
"""Votes that an answer of middling quality to the least and the most read question gets."""
VOTE_SLOPE = 2.5
"""An answer of gold grade 1 gets e to this times the votes of one of grade 0."""
VOTE_NOISE = 0.6
"""Deviation of the logarithm of votes that no quality explains."""
LENGTH_SLOPE, FIRST_BONUS = 0.25, 0.4
"""What ten words more, and being first, add to the logarithm of votes."""


class OpinionSettings(Settings):
    """How many comparisons of each kind to write."""

    seed: int = 0
    """Everything is a function of it, labelers included."""
    helpful: int = Field(default=5000, ge=1)
    """Comparisons on harmless requests, judged by helpfulness alone."""
    harmless: int = Field(default=5000, ge=1)
    """Comparisons on harmful requests, judged by harmlessness alone."""
    overall: int = Field(default=4000, ge=1)
    """Comparisons on all requests, judged by both."""
    binary: int = Field(default=2000, ge=1)
    """Pairs of a right and a wrong answer."""
    questions: int = Field(default=4000, ge=1)
    """Questions with voted answers."""
    held_out: int = Field(default=1000, ge=1)
    """Comparisons of each kind on requests that are in no other file."""
    noise: float = Field(default=0.118, ge=0)
    """τ of the labelers, as in `LabelerSettings`; their judgements have no ties here."""


def write_opinions(directory: Path, settings: OpinionSettings) -> dict[str, float]:
    """Write the files of every kind; returns how often a perfect scorer would be right.

    `<kind>.jsonl` and `<kind>-heldout.jsonl` for helpful, harmless, overall and binary;
    `helpful-preferred.jsonl`, `harmless-preferred.jsonl` and `binary-right.jsonl`, the better
    replies as demonstrations;
    `voted.jsonl` (questions), `voted-ranked.jsonl` and `voted-binarised.jsonl` (comparisons).
    """
    directory.mkdir(parents=True, exist_ok=True)
    ceilings = {}
    for kind in KINDS:
        learned, held_out = (_judged(kind, split, settings) for split in SPLITS.values())
        write_comparisons(directory / f"{kind}.jsonl", learned)
        write_comparisons(directory / f"{kind}-heldout.jsonl", held_out)
        if kind in PREFERRED:
            write_demonstrations(directory / PREFERRED[kind], map(_preferred, learned))
        if kind != "binary":
            ceilings[f"{kind}_ceiling"] = ceiling(_population(kind, settings), held_out)
    questions = voted_questions(settings.questions, settings.seed)
    write_rows(directory / "voted.jsonl", map(question_row, questions))
    for name, binarise in (("ranked", False), ("binarised", True)):
        # One pair of each question, so that both kinds of pretraining read the same texts.
        made = ranked_comparisons(
            questions, binarise=binarise, pairs_per_question=1, seed=settings.seed
        )
        write_comparisons(directory / f"voted-{name}.jsonl", made)
    return ceilings


SPLITS: dict[str, Split] = {"learned": "train", "held out": "evaluation"}
PREFERRED = {
    "helpful": "helpful-preferred.jsonl", "harmless": "harmless-preferred.jsonl",
    "binary": "binary-right.jsonl",
}  # fmt: skip


def _judged(kind: str, split: Split, settings: OpinionSettings) -> list[Comparison]:
    count = settings.held_out if split == "evaluation" else getattr(settings, kind)
    drawn = KINDS[kind][0](count, settings.seed, split)
    population = _population(kind, settings)
    return drawn if kind == "binary" else [population(each) for each in drawn]


def _population(kind: str, settings: OpinionSettings) -> LabelerPopulation:
    weight = KINDS[kind][1]
    return LabelerPopulation(
        LabelerSettings(
            harmlessness_weight=weight, harmlessness_weight_spread=0.1 if weight == 0.5 else 0.0,
            noise=settings.noise, tie_threshold=0.0, seed=settings.seed,
        )
    )  # fmt: skip


def ceiling(population: LabelerPopulation, comparisons: Sequence[Comparison]) -> float:
    """How often the better of two replies, as the average labeler sees them, wins a vote.

    Under σ((u_a − u_b)/τ) with the labelers' mean weight of harmlessness: what no scorer can exceed
    but by luck.
    """
    settings = population.settings
    chances = []
    for comparison in comparisons:
        first, second = (
            (1 - settings.harmlessness_weight) * graded.helpfulness
            + settings.harmlessness_weight * graded.harmlessness
            for graded in (grade(comparison.prompt, each) for each in comparison.responses)
        )
        gap = abs(first - second) / max(settings.noise, 1e-9)
        chances.append(1 / (1 + math.exp(-gap)) if gap < 500 else 1.0)
    return sum(chances) / len(chances)


def helpful_comparisons(n: int, seed: int, split: Split = "train") -> list[Comparison]:
    """n unjudged pairs of replies to harmless requests, refusals among them."""
    families = {name: share for name, share in FAMILY_SHARES.items() if name != "harmful"}

    def replies(task: Task, rng: random.Random) -> str:
        if rng.random() < REFUSING_SHARE:
            refusal = rng.choice(conduct.REFUSALS)
            reason = answers.reason(task, rng, fitting=False)
            return refusal if rng.random() < 0.5 else f"{refusal} {reason}"
        return _imperfect(task, rng)

    return _pairs(n, f"{seed}/helpful/{split}", split, families, replies)


def harmless_comparisons(n: int, seed: int, split: Split = "train") -> list[Comparison]:
    """n unjudged pairs of replies to harmful requests."""
    return _pairs(n, f"{seed}/harmless/{split}", split, {"harmful": 1.0}, _imperfect)


def overall_comparisons(n: int, seed: int, split: Split = "train") -> list[Comparison]:
    """n unjudged pairs of replies to all kinds of requests, by models good and bad."""

    def replies(task: Task, rng: random.Random) -> str:
        return _imperfect(task, rng, spoiled=OVERALL_SPOILED_SHARE)

    return _pairs(n, f"{seed}/overall/{split}", split, FAMILY_SHARES, replies)


def binary_comparisons(n: int, seed: int, split: Split = "train") -> list[Comparison]:
    """n pairs of a right and a wrong answer, the right one first."""
    made = []
    for i in range(n):
        rng = random.Random(f"{seed}/binary/{split}/{i}")
        request = draw_request(rng, split, rng.choice(sorted({*FACT_FAMILIES, "code"})))
        right, wrong = (
            answers.right_answer(request.task, rng),
            answers.wrong_answer(request.task, rng),
        )
        made.append(chosen_and_rejected(ask(request.text), right, wrong))
    return [pair for pair in made if len(set(pair.responses)) == 2]


Draw = Callable[[int, int, Split], list[Comparison]]
KINDS: dict[str, tuple[Draw, float]] = {
    "helpful": (helpful_comparisons, 0.0),
    "harmless": (harmless_comparisons, 1.0),
    "overall": (overall_comparisons, 0.5),
    "binary": (binary_comparisons, 0.5),
}
"""How each kind is drawn, and the labelers' weight of harmlessness."""


def _imperfect(task: Task, rng: random.Random, *, spoiled: float = SPOILED_SHARE) -> str:
    if rng.random() < spoiled:
        return corruptions.corrupt(task, answers.right_answer(task, rng), rng)
    return imperfect_response(task, rng)


def _pairs(
    n: int,
    stream: str,
    split: Split,
    families: dict[str, float],
    reply: Callable[[Task, random.Random], str],
) -> list[Comparison]:
    """n pairs of different replies."""
    made: list[Comparison] = []
    draw = 0
    while len(made) < n:
        rng = random.Random(f"{stream}/{draw}")
        draw += 1
        family = rng.choices(tuple(families), tuple(families.values()))[0]
        request = draw_request(rng, split, family)
        said = tuple(reply(request.task, rng) for _ in range(2))
        if len(set(said)) == 2:
            made.append(Comparison(prompt=ask(request.text), responses=said, source="playground"))
    return made


def _preferred(comparison: Comparison) -> Demonstration:
    (order,) = comparison.ordered_pairs()
    return Demonstration(prompt=comparison.prompt, response=comparison.responses[order[0]])


def voted_questions(n: int, seed: int) -> list[AnsweredQuestion]:
    """n questions with answers and the votes they got; a function of its arguments."""
    questions = []
    for i, drawn in enumerate(mixed_comparisons(n, seed, responses=ANSWERS_PER_QUESTION)):
        rng = random.Random(f"{seed}/votes/{i}")
        least, most = map(math.log, READERS)
        readers = rng.uniform(least, most)
        expected = [
            readers + _appeal(drawn, text, place) + rng.gauss(0, VOTE_NOISE)
            for place, text in enumerate(drawn.responses)
        ]
        votes = [_poisson(math.exp(each), rng) - _poisson(1.0, rng) for each in expected]
        accepted = rng.choices(range(len(votes)), [math.exp(each) for each in expected])[0]
        questions.append(
            AnsweredQuestion(
                prompt=drawn.prompt,
                answers=tuple(
                    VotedAnswer(text=text, votes=count, accepted=place == accepted)
                    for place, (text, count) in enumerate(zip(drawn.responses, votes, strict=True))
                ),
            )
        )
    return questions


def _appeal(drawn: Comparison, text: str, place: int) -> float:
    quality = grade(drawn.prompt, text).overall - 0.5
    length = len(text.split()) / 10
    return VOTE_SLOPE * quality + LENGTH_SLOPE * length + FIRST_BONUS * (place == 0)


def _poisson(mean: float, rng: random.Random) -> int:
    """By the gaps between arrivals."""
    count, passed = 0, rng.expovariate(1.0)
    while passed < mean:
        count += 1
        passed += rng.expovariate(1.0)
    return count
