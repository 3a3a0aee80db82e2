"""The loss of preference-model pretraining, against plain padded rows and worked by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import softplus

from hark.errors import SettingsError
from hark.models.language_model import load_language_model
from hark.models.packing import PromptTree, pack
from hark.models.scalar_head import load_scalar_model, new_scalar_model, response_scores
from hark.runs.metrics import read_metrics
from hark.runs.run import Run
from hark.training.objectives import mean_over_tokens
from hark.training.preference import micro_batches, train
from hark.training.preference_data import PreferenceExample, collate
from hark.training.preference_loss import batch_loss, tokens_of_best, with_language_modelling
from hark.training.preference_settings import PreferenceSettings

StartRun = Callable[..., Run]
WriteLines = Callable[..., Path]

TREES = (
    PromptTree((5, 6, 7), ((8, 9, 1), (10, 1), (11, 12, 13, 1))),
    PromptTree((20,), ((21, 22, 1), (23, 1))),
)
ROWS = [
    {"prompt": f"Who is {name}?", "chosen": f"{name} is a cat.", "rejected": "No idea."}
    for name in ("Tom", "Kit", "Ada", "Ivy", "Max", "Zoe")
]


def example(
    tree: PromptTree, better: tuple[int, ...], worse: tuple[int, ...], **changes: Any
) -> PreferenceExample:
    values: dict[str, Any] = {
        "tree": tree, "first": better, "second": worse, "probabilities": (1.0,) * len(better),
        "best": better[0], "weight": 1.0, "required_margin": 0.0,
    }  # fmt: skip
    return PreferenceExample(**{**values, **changes})


def test_the_mean_over_tokens_worked_by_hand() -> None:
    values = torch.tensor([1.0, 3.0, 5.0, 7.0])
    found = mean_over_tokens(values, torch.tensor([0, 0, 2, 2]), 3)
    assert found.tolist() == [2.0, 0.0, 6.0]


def test_the_tokens_of_the_best_reply_alone(language_model: Path) -> None:
    model = new_scalar_model(load_language_model(language_model), initial_std=1.0, seed=3)
    examples = [
        example(TREES[0], (2, 2), (0, 1)),
        example(TREES[1], (0,), (1,), probabilities=(0.5,), best=-1),
    ]
    batch = collate(model, examples)
    tokens, comparison_of = tokens_of_best(batch)
    assert batch.packed.targets[tokens].tolist() == [11, 12, 13, 1]
    assert comparison_of.tolist() == [0, 0, 0, 0]


def padded_loss(language_model: Any, tree: PromptTree, reply: int) -> torch.Tensor:
    """Mean −log p of one reply, by a plain forward pass of the whole language model."""
    row = torch.tensor([[*tree.prompt, *tree.responses[reply]]])
    logprobs = language_model(row).logits[0, :-1].log_softmax(-1)
    of_reply = logprobs.gather(1, row[0, 1:, None]).squeeze(1)[len(tree.prompt) - 1 :]
    return -of_reply.mean()


def test_packed_equals_padded_gradients_included(language_model: Path) -> None:
    """Both losses and the gradient of the shared embedding, with weights and two micro-batches."""
    plain = load_language_model(language_model)
    model = new_scalar_model(plain, initial_std=1.0, seed=3)
    reference = copy.deepcopy(model)
    language = with_language_modelling(model, load_language_model(language_model), 0.5)
    examples = [example(TREES[0], (2, 2), (0, 1)), example(TREES[1], (1,), (0,), weight=3.0)]

    expected = torch.zeros(())
    for tree, (best, others), weight in zip(TREES, ((2, (0, 1)), (1, (0,))), (1, 3), strict=True):
        scores = response_scores(reference, pack([tree], one_sequence_per_row=True))
        ranking = torch.stack([softplus(scores[o] - scores[best]) for o in others]).mean()
        expected = expected + weight * (ranking + 0.5 * padded_loss(plain, tree, best))
    expected.backward()
    gradient = (
        reference.get_input_embeddings().weight.grad + plain.get_input_embeddings().weight.grad
    )

    for limit in (1000, 8):
        model.zero_grad()
        total = replies = 0.0
        for part in micro_batches(model, examples, limit=limit):
            report = batch_loss(model, part.batch, loss="ranking", language=language)
            report.loss.backward()
            total += float(report.loss.detach())
            replies += float(report.sums["reply_loss"].sum.detach())
        assert total == pytest.approx(float(expected.detach()), rel=1e-5)
        assert replies == pytest.approx(
            float(padded_loss(plain, TREES[0], 2).detach())
            + 3 * float(padded_loss(plain, TREES[1], 1).detach()),
            rel=1e-5,
        )
        torch.testing.assert_close(
            model.get_input_embeddings().weight.grad, gradient, rtol=1e-4, atol=1e-5
        )


def settings(model: Path | str, data: Path, **changes: Any) -> PreferenceSettings:
    return PreferenceSettings.parse(
        {"model": str(model), "data": [data], "batch_size": 3, "epochs": 8,
         "optimizer": {"learning_rate": 3e-3}, **changes}
    )  # fmt: skip


def test_pretraining_lowers_both_losses_and_is_a_start_with_its_head(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("pairs.jsonl", ROWS)
    with start_run(
        "preference", first := settings(language_model, data, language_modelling_coefficient=1.0)
    ) as run:
        results = train(first, run)
        run.finish(results)
    losses = [
        r["reply_loss"] for r in read_metrics(run.path / "metrics.jsonl") if "reply_loss" in r
    ]
    assert losses[-1] < 0.95 * losses[0]
    assert results["reply_loss"] == losses[-1]

    pretrained = load_scalar_model(run.path / "model")
    again = settings(run.path, data, epochs=1, optimizer={"learning_rate": 1e-12})
    with start_run("preference", again) as second:
        train(again, second)
    kept = load_scalar_model(second.model_path)
    torch.testing.assert_close(kept.score.weight, pretrained.score.weight, rtol=0, atol=1e-6)

    fresh = settings(
        run.path, data, epochs=1, optimizer={"learning_rate": 1e-12}, head_initial_std=0.0
    )
    with start_run("preference", fresh) as third:
        train(fresh, third)
    assert float(load_scalar_model(third.model_path).score.weight.detach().abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"language_modelling_coefficient": 1.0},
            "language_modelling_coefficient needs a language",
        ),
        ({"normalise": "reference"}, "normalise 'reference' needs a language model to start from"),
    ],
)
def test_a_preference_model_is_no_start_for_what_needs_a_language_model(
    language_model: Path,
    write_lines: WriteLines,
    start_run: StartRun,
    tmp_path: Path,
    changes: dict[str, Any],
    said: str,
) -> None:
    data = write_lines("pairs.jsonl", ROWS)
    with start_run("preference", plain := settings(language_model, data, epochs=1)) as run:
        run.finish(train(plain, run))
    refused = settings(run.path, data, **changes)
    with (
        start_run("preference", refused) as second,
        pytest.raises(SettingsError, match=said),
    ):
        train(refused, second)
