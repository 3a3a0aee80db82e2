from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import softplus

from hark.data.records import answered, ask
from hark.errors import DataError, SettingsError
from hark.models.packing import PromptTree, pack
from hark.models.scalar_head import ModelScorer, load_scalar_model, response_scores
from hark.models.tokenizer import load_tokenizer
from hark.runs.metrics import read_metrics
from hark.runs.run import Run
from hark.training import preference
from hark.training.normalisation import score_trees
from hark.training.preference import micro_batches, train
from hark.training.preference_data import PreferenceExample
from hark.training.preference_loss import batch_loss, pairs_right
from hark.training.preference_settings import PreferenceSettings

StartRun = Callable[..., Run]
WriteLines = Callable[..., Path]
PowerCut = Callable[..., AbstractContextManager[None]]

PLACES = ("mat", "hill", "wall", "roof")
RANKINGS = [
    {
        "prompt": f"Where did the {animal} sit?",
        "responses": [f"The {animal} sat on the {place}." for place in rotated],
        "ranks": [PLACES.index(place) + 1 for place in rotated],
    }
    for animal in ("cat", "dog", "hen", "fox", "owl", "cow")
    for rotated in [PLACES[shift:] + PLACES[:shift] for shift in range(3)]
]
"""The mat is always best, the roof always worst."""

DEMONSTRATIONS = [
    {"prompt": row["prompt"], "completion": row["responses"][0]} for row in RANKINGS[:7]
]


@pytest.fixture
def rankings(write_lines: WriteLines) -> Path:
    return write_lines("rankings.jsonl", RANKINGS)


def tiny(model: Path, data: Path, **changes: Any) -> PreferenceSettings:
    values: dict[str, Any] = {
        "model": str(model), "data": [data], "batch_size": 4, "optimizer": {"learning_rate": 3e-3},
    }  # fmt: skip
    return PreferenceSettings.parse({**values, **changes})


@pytest.mark.parametrize("loss", ["ranking", "best_of_k"])
def test_learns_which_answer_is_liked(
    language_model: Path, rankings: Path, start_run: StartRun, loss: str
) -> None:
    settings = tiny(
        language_model, rankings, loss=loss, epochs=4, evaluation_data=[rankings],
        evaluation_every=10,
    )  # fmt: skip
    with start_run("preference", settings) as run:
        results = train(settings, run)
    records = read_metrics(run.path / "metrics.jsonl")
    measured = {r["step"]: r for r in records if "evaluation_loss" in r}
    assert list(measured) == [0, 10, 20]
    chance = math.log(2) if loss == "ranking" else math.log(4)
    assert measured[0]["evaluation_loss"] == pytest.approx(chance, rel=0.6)
    assert measured[20]["evaluation_loss"] < 0.6 * measured[0]["evaluation_loss"]
    assert measured[20]["evaluation_accuracy"] > 0.9
    assert results["evaluation_accuracy"] == measured[20]["evaluation_accuracy"]
    assert (results["comparisons"], results["pairs"]) == (18, 18 * 6)
    assert (results["steps"], results["evaluation_comparisons"]) == (20, 18)
    scorer = ModelScorer(load_scalar_model(run.model_path), load_tokenizer(run.model_path))
    prompt = ask("Where did the cat sit?")
    mat, roof = scorer([answered(prompt, f"The cat sat on the {p}.") for p in ("mat", "roof")])
    assert mat > roof


def example(tree: PromptTree, ranks: tuple[int, ...], **changes: Any) -> PreferenceExample:
    pairs = [(i, j) for i in range(len(ranks)) for j in range(len(ranks)) if ranks[i] < ranks[j]]
    values: dict[str, Any] = {
        "tree": tree,
        "first": tuple(i for i, _ in pairs),
        "second": tuple(j for _, j in pairs),
        "probabilities": (1.0,) * len(pairs),
        "best": ranks.index(1),
        "weight": 1.0,
        "required_margin": 0.0,
    }
    return PreferenceExample(**{**values, **changes})


TREES = (
    PromptTree((5, 6, 7), ((8, 9, 1), (10, 1), (11, 12, 13, 1))),
    PromptTree((20,), ((21, 22, 1), (23, 1))),
)


def scalar_model(language_model: Path) -> Any:
    from hark.models.language_model import load_language_model
    from hark.models.scalar_head import new_scalar_model

    return new_scalar_model(load_language_model(language_model), initial_std=1.0, seed=3)


@pytest.mark.parametrize("loss", ["ranking", "best_of_k"])
def test_packed_batch_is_the_weighted_mean_of_padded_comparisons(
    language_model: Path, loss: Any
) -> None:
    model = scalar_model(language_model)
    examples = [example(TREES[0], (2, 3, 1)), example(TREES[1], (1, 2), weight=3.0)]
    with torch.no_grad():
        alone = [response_scores(model, pack([tree], one_sequence_per_row=True)) for tree in TREES]
        if loss == "ranking":
            pairs = [(2, 0), (2, 1), (0, 1)]  # ranks 2, 3, 1
            gaps = torch.stack([alone[0][better] - alone[0][worse] for better, worse in pairs])
            losses = [softplus(-gaps).mean(), softplus(alone[1][1] - alone[1][0])]
        else:
            losses = [-alone[0].log_softmax(0)[2], -alone[1].log_softmax(0)[0]]
        for limit in (1000, 8):
            parts = micro_batches(model, examples, limit=limit)
            total = sum(float(batch_loss(model, part.batch, loss=loss).loss) for part in parts)
            assert total == pytest.approx(float(losses[0] + 3 * losses[1]), rel=1e-5)
            assert sum(part.weight for part in parts) == 4.0
            assert sum(part.tokens for part in parts) == 12 + 6


def test_required_margins_raise_the_loss(language_model: Path) -> None:
    model = scalar_model(language_model)
    losses = []
    for margin in (0.0, 1.0):
        (part,) = micro_batches(
            model, [example(TREES[1], (1, 2), required_margin=margin)], limit=100
        )
        losses.append(float(batch_loss(model, part.batch, loss="ranking").loss.detach()))
    # log(1 + e^−Δ) gives e^−Δ = e^loss − 1, and the margin multiplies it by e.
    assert losses[1] == pytest.approx(math.log1p(math.e * math.expm1(losses[0])), rel=1e-4)


def test_accuracy_counts_ties_as_half() -> None:
    margins = torch.tensor([2.0, -2.0, 0.0, 1.0, -1.0, 1.0])
    probabilities = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.2, 0.2])
    assert pairs_right(margins, probabilities).tolist() == [1.0, 0.0, 0.5, 0.5, 1.0, 0.0]


def reference_settings(model: Path, data: Path, **changes: Any) -> PreferenceSettings:
    return tiny(
        model, data, normalise="reference", normalise_samples=24,
        sampling={"max_response_tokens": 6}, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["plain", "normalised", "pretraining"])
def test_interrupted_and_undisturbed_are_identical(
    language_model: Path,
    rankings: Path,
    start_run: StartRun,
    power_cut: PowerCut,
    kind: str,
) -> None:
    make = reference_settings if kind == "normalised" else tiny
    more = {"language_modelling_coefficient": 1.0} if kind == "pretraining" else {}
    paths = []
    for name in ("undisturbed", "disturbed"):
        settings = make(
            language_model, rankings, name=name, checkpoint_every=2, evaluation_data=[rankings],
            **more,
        )  # fmt: skip
        if name == "disturbed":
            with (
                power_cut("hark.training.preference.examples_of_step", call=4),
                start_run("preference", settings) as run,
            ):
                train(settings, run)
            assert run.latest_checkpoint() == run.checkpoint_path(2)
        with start_run("preference", settings) as run:
            run.finish(train(settings, run))
        paths.append(run.path)
    for file in ("metrics.jsonl", "model/model.safetensors", "model/config.json", "results.json"):
        assert (paths[0] / file).read_bytes() == (paths[1] / file).read_bytes()


def test_demonstrations_score_zero_on_average(
    language_model: Path, rankings: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    demonstrations = write_lines("demonstrations.jsonl", DEMONSTRATIONS)
    settings = tiny(
        language_model, rankings, normalise="demonstrations", normalise_data=[demonstrations]
    )
    with start_run("preference", settings) as run:
        results = train(settings, run)
    scorer = ModelScorer(load_scalar_model(run.model_path), load_tokenizer(run.model_path))
    scores = scorer([answered(ask(str(d["prompt"])), str(d["completion"])) for d in DEMONSTRATIONS])
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-4)
    assert results["reward_bias"] != 0.0
    assert float(scores.std()) > 0


def test_reference_samples_have_mean_zero_and_deviation_one_before_and_after(
    language_model: Path, rankings: Path, start_run: StartRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments: list[tuple[float, float]] = []
    samples: list[list[PromptTree]] = []
    real = preference.normalise

    def watched(model: Any, trees: list[PromptTree], settings: PreferenceSettings) -> None:
        real(model, trees, settings)
        scores = score_trees(model, trees, batch_tokens=100)
        moments.append((float(scores.mean()), float(scores.std(correction=0))))
        samples.append(trees)

    monkeypatch.setattr(preference, "normalise", watched)
    settings = reference_settings(language_model, rankings)
    with start_run("preference", settings) as run:
        train(settings, run)
    assert len(moments) == 2
    for mean, deviation in moments:
        assert mean == pytest.approx(0.0, abs=1e-4)
        assert deviation == pytest.approx(1.0, abs=1e-4)
    assert samples[0] == samples[1]
    # The comparisons are about six prompts, each of which is read once for all its samples.
    assert sum(len(tree.responses) for tree in samples[0]) == 24
    assert len(samples[0]) == 6
    saved = load_scalar_model(run.model_path)
    scores = score_trees(saved, samples[0], batch_tokens=100)
    assert float(scores.std(correction=0)) == pytest.approx(1.0, abs=1e-4)
    assert len({response for tree in samples[0] for response in tree.responses}) > 12


def test_equal_scores_cannot_be_standardised(
    language_model: Path, rankings: Path, start_run: StartRun
) -> None:
    settings = reference_settings(language_model, rankings, head_initial_std=0.0)
    with (
        start_run("preference", settings) as run,
        pytest.raises(DataError, match="24 samples of the reference policy have the same score"),
    ):
        train(settings, run)


def test_an_all_tied_ranking_is_named(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    tied = {**RANKINGS[0], "ranks": [1, 1, 1, 1]}
    data = write_lines("tied.jsonl", [*RANKINGS[:2], tied])
    with (
        start_run("preference", settings := tiny(language_model, data)) as run,
        pytest.raises(DataError, match=r"record 3 of '.*tied.jsonl': all 4 responses are tied"),
    ):
        train(settings, run)
    halves = tiny(language_model, data, ties="half")
    with start_run("preference", halves) as run:
        assert train(halves, run)["pairs"] == 18


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"loss": "best_of_k", "ties": "half"}, "ties would be ignored"),
        ({"loss": "best_of_k", "use_strength_as": "margin"}, "has no margin"),
        ({"normalise_data": "x"}, "normalise_data would be ignored"),
        ({"normalise": "demonstrations"}, "needs them as normalise_data"),
        ({"normalise_samples": 10}, "normalise_samples would be ignored"),
        ({"sampling": {"temperature": 0.7}}, "sampling would be ignored"),
        ({"evaluation_every": 5}, "evaluation_every would be ignored"),
        ({"los": "ranking"}, "did you mean 'loss'"),
    ],
)
def test_settings_that_contradict_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        PreferenceSettings.parse({"model": "m", "data": "d", **values})


def test_defaults_are_instructgpts() -> None:
    settings = PreferenceSettings(model="m", data=(Path("d"),))
    assert (settings.epochs, settings.batch_size, settings.loss) == (1, 64, "ranking")
    assert settings.optimizer.learning_rate == 9e-6
    assert settings.optimizer.final_learning_rate_fraction == 0.1
    assert settings.ties == "drop"
