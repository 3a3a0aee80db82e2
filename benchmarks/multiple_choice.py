"""Questions with four options of several tokens, beside lm-eval's `hf` model.

    python -m benchmarks.multiple_choice [--model SFT_RUN --data DEMONSTRATIONS ...]

A question is a prompt of 60 to 300 tokens, its options the beginning of its own response and those
of the responses of three others. Every option's log-likelihood is compared.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from benchmarks import environments, sides
from benchmarks.contender import Repetition
from benchmarks.contest import Contest
from benchmarks.inputs import Inputs
from benchmarks.options import parser
from benchmarks.rounds import TOLERANCE, require_agreement
from benchmarks.table import Report
from hark.data.formats import write_records
from hark.data.records import Question
from hark.models.flops import Shape, language_model
from hark.models.packing import PromptTree

SETTINGS: dict[str, dict[str, Any]] = {
    f"batches of {size}": {"batch": size} for size in (1, 2, 4, 8, 16, 32, 64)
}
TRIED = ("batches of 2", "batches of 4", "batches of 8", "batches of 16")
CONTEXT_TOKENS = range(60, 301)
OPTIONS, OPTION_TOKENS = 4, 16


def main() -> None:
    options = parser(__doc__.splitlines()[0], settings=SETTINGS, tried=TRIED)
    options.add_argument("--questions", type=int, default=48)
    options.add_argument("--pool", type=int, default=1000, help="dialogues to make them from")
    asked = options.parse_args()
    work = sides.work_directory(asked, "multiple-choice")
    inputs = Inputs.of(asked)
    made = questions(inputs, inputs.demonstrations(asked.pool), asked.questions)
    data = work / "questions.jsonl"
    write_records(data, made, kind="questions")
    settings = {
        "model": str(inputs.directory), "data": str(data), "work": str(work),
    }  # fmt: skip
    shape = Shape.of(inputs.model)
    count = inputs.tokenizer
    lengths = [
        (_tokens(count, each.context), tuple(_tokens(count, option) for option in each.options))
        for each in made
    ]
    work_of_all = sum(language_model(shape, each) for each in lengths)

    with (
        sides.peer("lm_eval_choice", environments.LM_EVAL, settings, asked) as theirs,
        sides.hark("multiple_choice", settings, asked) as ours,
    ):
        contest = Contest(
            ours=ours, theirs=theirs, settings={name: SETTINGS[name] for name in asked.settings},
            request=lambda trial: {}, useful=lambda repetition: work_of_all,
            check=same_likelihoods,
        )  # fmt: skip
        results = contest.run(asked.dtypes, asked.repetitions)
    context = sum(prompt for prompt, _ in lengths) / len(lengths)
    Report(
        workload=f"Multiple choice, {OPTIONS} options of up to {OPTION_TOKENS} tokens",
        peer="lm-eval 0.4.13 hf",
        unit="questions",
        circumstances=sides.circumstances(
            inputs, asked, f"{len(made)} questions, contexts of {context:.0f} tokens on average"
        ),
        results=results,
    ).publish(asked.append)


def same_likelihoods(dtype: str, ours: Repetition, theirs: Repetition) -> str:
    """The log-likelihood of every option."""
    return require_agreement(
        "log-likelihoods of all options", ours.losses, theirs.losses, tolerance=TOLERANCE[dtype]
    )


def questions(inputs: Inputs, trees: Sequence[PromptTree], count: int) -> list[Question]:
    """Questions whose text splits into the same tokens, context and option apart or together."""
    decode = inputs.tokenizer.decode
    beginnings = [decode(tree.responses[0][:OPTION_TOKENS][:-1]) for tree in trees]
    draw = random.Random(f"{inputs.seed}/questions")
    made = []
    for place, tree in enumerate(trees):
        if len(tree.prompt) not in CONTEXT_TOKENS:
            continue
        others = draw.sample([i for i in range(len(trees)) if i != place], OPTIONS - 1)
        options = tuple(beginnings[i] for i in (place, *others))
        if len(set(options)) < OPTIONS or not all(map(str.strip, options)):
            continue
        question = Question(context=decode(tree.prompt), options=options, answer=0)
        if _splits_alike(inputs, question):
            made.append(question)
    if len(made) < count:
        raise SystemExit(f"only {len(made)} questions can be made, not {count}; give more data")
    return made[:count]


def _splits_alike(inputs: Inputs, question: Question) -> bool:
    def encode(text: str) -> list[int]:
        return list(inputs.tokenizer(text, add_special_tokens=False)["input_ids"])

    context = encode(question.context)
    return all(
        encode(question.context + option) == context + encode(option) for option in question.options
    )


def _tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


if __name__ == "__main__":
    main()
