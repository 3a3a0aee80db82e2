"""Distances worked by hand; a detector that is read back; activations without padding's trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from hark.data.records import ask
from hark.errors import ModelError
from hark.models.activations import layer_count, prompt_activations
from hark.models.checkpoint import save_model
from hark.models.outlier_detector import (
    Gaussian,
    OutlierDetector,
    OutlierGuard,
    quadratic_form,
)
from hark.models.tokenizer import train_tokenizer

# Four points with mean (1, 1), variances 8/3 and 2/3, and no covariance.
CROSS = np.array([[3.0, 1.0], [-1.0, 1.0], [1.0, 2.0], [1.0, 0.0]])


def test_distances_by_hand() -> None:
    gaussian = Gaussian.fit(CROSS, shrinkage=0.0)
    np.testing.assert_allclose(gaussian.mean, [1.0, 1.0])
    np.testing.assert_allclose(gaussian.variances, [8 / 3, 2 / 3])
    # (3−1)² / (8/3) + (2−1)² / (2/3) = 1.5 + 1.5
    np.testing.assert_allclose(gaussian.mahalanobis(np.array([[3.0, 2.0]])), [3.0])
    np.testing.assert_allclose(gaussian.simplified_relative(CROSS), 0.0, atol=1e-12)


def test_the_relative_distance_is_what_correlation_adds() -> None:
    # Σ = [[1, ½], [½, 1]]: Σ⁻¹ = [[4, −2], [−2, 4]] / 3; diag(Σ)⁻¹ = I.
    gaussian = Gaussian(
        mean=np.zeros(2), precision=np.linalg.inv([[1.0, 0.5], [0.5, 1.0]]), variances=np.ones(2)
    )
    against, along = np.array([[1.0, -1.0]]), np.array([[1.0, 1.0]])
    np.testing.assert_allclose(gaussian.mahalanobis(against), [4.0])
    np.testing.assert_allclose(gaussian.simplified_relative(against), [4.0 - 2.0])
    np.testing.assert_allclose(gaussian.simplified_relative(along), [4 / 3 - 2.0])


def test_shrinkage_leaves_the_diagonal_and_gives_an_inverse() -> None:
    few = np.random.default_rng(0).normal(size=(5, 12))
    gaussian = Gaussian.fit(few, shrinkage=0.5)
    np.testing.assert_allclose(gaussian.variances, few.var(axis=0, ddof=1))
    covariance = np.cov(few, rowvar=False) * 0.5
    np.fill_diagonal(covariance, gaussian.variances)
    np.testing.assert_allclose(gaussian.precision @ covariance, np.eye(12), atol=1e-9)
    with pytest.raises(ModelError, match="do not vary in every dimension"):
        Gaussian.fit(np.ones((5, 2)), shrinkage=0.5)


def detector(**changes: object) -> OutlierDetector:
    gaussian = Gaussian(
        mean=np.array([1.0, 0.0]), precision=np.linalg.inv([[1.0, 0.5], [0.5, 1.0]]),
        variances=np.ones(2),
    )  # fmt: skip
    values = {
        "method": "simplified_relative", "layer": 1, "pooling": "mean", "centre": gaussian.mean,
        "quadratic": OutlierDetector.matrix("simplified_relative", gaussian),
        "linear": np.array([0.0, 10.0]), "threshold": 3.0, "false_refusal_rate": 0.05,
        "model": "nowhere",
    }  # fmt: skip
    return OutlierDetector(**(values | changes))  # type: ignore[arg-type]


def test_a_score_is_a_quadratic_and_a_linear_form() -> None:
    # x − μ = (1, −1): 4 − 2 from the form above, and −10 from the linear part.
    np.testing.assert_allclose(detector().scores(np.array([[2.0, -1.0]])), [2.0 - 10.0])
    np.testing.assert_allclose(quadratic_form(np.array([[1.0, 2.0]]), np.eye(2)), [5.0])


def test_a_detector_is_read_back_as_it_was(tmp_path: Path) -> None:
    detector().save(tmp_path / "detector")
    again = OutlierDetector.load(tmp_path / "detector")
    points = np.random.default_rng(0).normal(size=(7, 2))
    np.testing.assert_array_equal(again.scores(points), detector().scores(points))
    assert (again.threshold, again.layer, again.pooling) == (3.0, 1, "mean")
    (tmp_path / "detector" / "detector.json").write_text("{")
    with pytest.raises(ModelError, match="holds no detector of outliers"):
        OutlierDetector.load(tmp_path / "detector")
    with pytest.raises(ModelError, match="give a run of hark outliers"):
        OutlierDetector.load(tmp_path / "nowhere")


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                    num_attention_heads=2, max_position_embeddings=64)
    ).eval()  # fmt: skip


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=64)
    ).eval()


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_prompts_vectors_do_not_depend_on_its_neighbours(make: object, pooling: str) -> None:
    model = make()  # type: ignore[operator]
    prompts = [[3, 4, 5, 6, 7, 8], [9], [10, 11, 12]]
    found = prompt_activations(
        model, prompts, layers=[0, 2], pooling=pooling, pad_token_id=0, batch_tokens=12
    )  # type: ignore[arg-type]
    assert found.shape == (3, 2, 16)
    assert layer_count(model) == 3
    for row, prompt in zip(found, prompts, strict=True):
        with torch.no_grad():
            states = model(torch.tensor([prompt]), output_hidden_states=True).hidden_states
        for vector, layer in zip(row, (0, 2), strict=True):
            expected = states[layer][0].mean(dim=0) if pooling == "mean" else states[layer][0, -1]
            np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_a_guard_refuses_what_its_detector_finds_strange(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a small dog saw the big cat"] * 20, vocabulary_size=280)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24,
                    num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64)
    )  # fmt: skip
    save_model(tmp_path / "model", model, tokenizer)
    with pytest.raises(ModelError, match="give the model it was fitted on"):
        OutlierGuard(detector(), model, tokenizer)
    plain = {"model": str(tmp_path / "model"), "centre": np.zeros(16), "linear": np.zeros(16)}
    at_one = detector(**plain, quadratic=np.eye(16))
    at_one.save(tmp_path / "run" / "detector")
    guard = OutlierGuard.load(tmp_path / "run", device="cpu")
    prompts = [ask("a dog"), ask("the big cat saw a small dog")]
    scores = guard.scores(prompts)
    assert len(set(scores.tolist())) == 2
    guard.detector = at_one.with_threshold(float(scores.mean()), false_refusal_rate=0.5)
    assert guard.refused(prompts) == (scores > scores.mean()).tolist()
    assert guard.refused(prompts[::-1]) == (scores > scores.mean()).tolist()[::-1]
