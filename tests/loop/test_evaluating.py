"""`hark evaluate`: what is measured follows from the model and the data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hark.cli.main import run
from hark.data.formats import write_comparisons, write_prompts, write_records, write_texts
from hark.data.records import Comparison, Dialogue, Prompt, Question, Text, answered, ask
from hark.evaluation.multiple_choice import option_likelihoods
from hark.evaluation.reply_likelihood import reply_likelihoods
from hark.loop.judges import labeler_from_scorer, remembering, scorer
from hark.loop.sampling import distinct, with_distractors
from hark.models.checkpoint import save_model
from hark.models.language_model import load_language_model, new_language_model
from hark.models.scalar_head import new_scalar_model
from hark.models.tokenizer import load_tokenizer, train_tokenizer

WORDS = "a small dog saw the big cat near an old house and ran home to sleep all day long"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([WORDS] * 20, vocabulary_size=280)
    model = new_language_model(
        "0.5m", vocabulary_size=len(tokenizer), context_length=64, seed=0, pad_token_id=0,
        eos_token_id=1,
    )  # fmt: skip
    save_model(directory / "base", model, tokenizer)
    save_model(directory / "preference", new_scalar_model(model), tokenizer)
    return directory


def evaluate(capfd: pytest.CaptureFixture[str], output: Path, *options: str) -> dict[str, Any]:
    status = run(["evaluate", *options, "--output", str(output / "runs"), "--json"])
    told = capfd.readouterr()
    assert status == 0, told.err
    result: dict[str, Any] = json.loads(told.out.splitlines()[-1])
    return result


def test_a_preference_model_on_pairs_is_measured_by_its_own_scores(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    score = scorer(str(models / "preference"), device="cpu")
    prompt, replies = ask("Hi"), ("the big cat", "an old house", "ran home")
    order = score([answered(prompt, reply) for reply in replies]).argsort(descending=True).tolist()
    best, middle, worst = (replies[index] for index in order)
    right = [(best, worst), (best, middle), (middle, worst)]
    pairs = [*right, (worst, best)]
    path = tmp_path / "pairs.jsonl"
    write_comparisons(
        path, [Comparison(prompt=prompt, responses=pair, ranks=(1, 2)) for pair in pairs]
    )
    result = evaluate(capfd, tmp_path, "--model", str(models / "preference"), "--data", str(path))
    assert result["accuracy"] == pytest.approx(0.75)
    assert result["n"] == 4
    assert {"interval", "calibration_error"} <= result.keys()


def test_a_language_model_with_baseline_and_judge_gets_a_win_rate(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.jsonl"
    write_prompts(path, [Prompt(prompt=ask(f"{word}?")) for word in WORDS.split()])
    result = evaluate(
        capfd, tmp_path, "--model", str(models / "base"), "--baseline", str(models / "base"),
        "--judge", "sentiment", "--data", str(path), "--sampling.max-response-tokens", "6",
    )  # fmt: skip
    assert 0.0 <= result["win_rate"] <= 1.0
    assert result["ties"] + result["wins"] + result["losses"] == result["n"] == len(WORDS.split())
    assert "interval" in result


def test_a_language_model_on_text_gets_a_loss(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "texts.jsonl"
    write_texts(path, [Text(text=WORDS), Text(text=WORDS[::-1])])
    result = evaluate(capfd, tmp_path, "--model", str(models / "base"), "--data", str(path))
    tokenizer = load_tokenizer(models / "base")
    assert result["tokens"] == sum(len(tokenizer(t)["input_ids"]) for t in (WORDS, WORDS[::-1]))
    # An untrained model knows about as much as a uniform guess among 280 tokens: ln 280 = 5.63.
    assert result["loss"] == pytest.approx(5.63, abs=0.3)


def test_a_language_model_on_questions_gets_the_accuracy_of_its_likeliest_options(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base = load_language_model(models / "base")
    asked = [
        Question(context=f"the {word}", options=(" saw", " the cat ran", " old"), answer=0)
        for word in WORDS.split()[:8]
    ]
    thought = option_likelihoods(base, load_tokenizer(models / "base"), asked)
    known = [
        dataclasses.replace(question, answer=each.totals.index(max(each.totals)))
        for question, each in zip(asked, thought, strict=True)
    ]
    missed = dataclasses.replace(known[0], answer=(known[0].answer + 1) % 3)
    path = tmp_path / "questions.jsonl"
    write_records(path, [missed, *known[1:]], kind="questions")
    result = evaluate(capfd, tmp_path, "--model", str(models / "base"), "--data", str(path))
    assert result["accuracy"] == pytest.approx(7 / 8)
    assert result["n"] == 8
    assert result["chance"] == pytest.approx(1 / 3)
    assert {"interval", "accuracy_per_token", "accuracy_per_byte"} <= result.keys()


def test_a_scorer_as_a_labeler_ranks_by_score_and_ties_what_is_equal() -> None:
    judged = labeler_from_scorer(scorer("sentiment"))(
        [
            Comparison(prompt=ask("Well?"), responses=("It is bad.", "It is great!", "It is bad.")),
            Comparison(prompt=ask("And?"), responses=("It is great!", "It is bad.")),
        ]
    )
    assert [each.ranks for each in judged] == [(2, 1, 2), (1, 2)]


def test_remembered_scores_are_asked_for_once() -> None:
    asked: list[int] = []

    def by_length(dialogues: list[Dialogue]) -> Tensor:
        asked.append(len(dialogues))
        return torch.tensor([len(dialogue[-1].content) / 3 for dialogue in dialogues])

    score = remembering(by_length)
    short, long = answered(ask("Well?"), "no"), answered(ask("Well?"), "never")
    first = score([long, short, long])
    assert first.tolist() == by_length([long, short, long]).tolist()
    assert torch.equal(score([short, long]), first[1:])
    assert asked == [2, 3]


def test_only_different_replies_that_say_something_are_compared() -> None:
    assert distinct(["one", "", "two", "one", "  "]) == ["one", "two"]


def test_distractors_come_from_other_prompts() -> None:
    groups = [[f"{prompt}{reply}" for reply in "xy"] for prompt in "abc"]
    for prompt, mixed in zip("abc", with_distractors(groups, 2, seed=1), strict=True):
        assert len(mixed) == 4
        assert sum(reply.startswith(prompt) for reply in mixed) == 2


def test_a_language_model_on_comparisons_is_measured_by_its_likelihoods(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = load_language_model(str(models / "base"))
    tokenizer = load_tokenizer(str(models / "base"))
    prompt, replies = ask("the big"), ("cat", "an old house and ran home", "dog")
    found = reply_likelihoods(model, tokenizer, [answered(prompt, reply) for reply in replies])
    path = tmp_path / "pairs.jsonl"
    orders = {}
    for name, scores in (
        ("accuracy", found.total), ("accuracy_per_token", found.per_token),
        ("accuracy_mutual_information", found.mutual_information),
    ):  # fmt: skip
        best, middle, worst = (replies[place] for place in (-scores).argsort())
        orders[name] = [(best, worst), (best, middle), (middle, worst)]
    for name, right in orders.items():
        write_comparisons(
            path,
            [
                Comparison(prompt=prompt, responses=pair, ranks=(1, 2))
                for pair in [*right, right[0][::-1]]
            ],
        )
        result = evaluate(
            capfd, tmp_path, "--model", str(models / "base"), "--data", str(path), "--device", "cpu"
        )
        assert result[name] == 0.75
        assert result["n"] == 4


def test_a_comparison_with_too_long_a_reply_is_left_out_of_accuracy_by_likelihood(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pairs.jsonl"
    prompt = ask("the big")
    fitting, long = ("cat", "dog"), ("cat", "old house " * 200)
    write_comparisons(
        path, [Comparison(prompt=prompt, responses=pair, ranks=(1, 2)) for pair in (fitting, long)]
    )
    asked = ["--model", str(models / "base"), "--data", str(path), "--device", "cpu"]
    result = evaluate(capfd, tmp_path, *asked)
    assert (result["comparisons"], result["comparisons_dropped"]) == (1, 1)
    status = run(["evaluate", *asked, "--long-responses", "cut", "--output", str(tmp_path / "cut")])
    assert status == 2
    assert "long_responses 'cut' would be ignored" in capfd.readouterr().err
