"""Multiple-choice questions about the world's facts: what a model knows, in no assistant's words.

Each is a statement of a pretraining text with its value left out, to be completed by one of four
values, as in the zero-shot suites by which alignment's tax on knowledge is measured (Bai et al.
2204.05862).
"""

from __future__ import annotations

import random

from hark.data.records import Question
from hark.playground.knowledge import RELATIONS

OPTIONS = 4


def questions(n: int, seed: int) -> list[Question]:
    """n questions; a function of its arguments."""
    rng = random.Random(f"{seed}/questions")
    return [_question(rng, number, seed) for number in range(n)]


def _question(rng: random.Random, number: int, seed: int) -> Question:
    while True:
        name = rng.choice(sorted(RELATIONS))
        relation = RELATIONS[name]
        subject = rng.choice(sorted(relation.truth))
        right = relation.truth[subject]
        endings = [each for each in relation.statements if each.endswith((" {v}.", " {a_v}."))]
        wrong = [value for value in relation.values if value not in right]
        if endings and len(wrong) >= OPTIONS - 1 and " or " not in subject:
            break
    template = rng.choice(endings)
    values = [right[0], *rng.sample(wrong, OPTIONS - 1)]
    rng.shuffle(values)
    said = [relation.state(template, subject, value) for value in values]
    context = relation.state(template[: template.rindex(" ")], subject, right[0])
    return Question(
        context=context,
        options=tuple(sentence.removeprefix(context) for sentence in said),
        answer=values.index(right[0]),
        source=f"playground/{name}",
        id=f"question-{seed}-{number}",
    )
