from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hark.data.records import Dialogue
from hark.errors import DataError, SettingsError
from hark.models.language_model import load_language_model
from hark.models.logprobs import response_logprobs
from hark.models.packing import PromptTree, pack
from hark.models.tokenizer import load_tokenizer
from hark.runs.metrics import read_metrics
from hark.runs.run import Run
from hark.training.sft import PretrainingMix, SFTSettings, batch_loss, micro_batches, train
from hark.training.token_file import TokenFile

StartRun = Callable[..., Run]
WriteLines = Callable[..., Path]
PowerCut = Callable[..., AbstractContextManager[None]]

DEMONSTRATIONS = [
    {"prompt": f"Where did the {animal} sit?", "completion": f"The {animal} sat on the {place}."}
    for animal, place in zip(
        ("cat", "dog", "hen", "fox", "owl", "cow", "cat", "dog", "hen", "fox"),
        ("mat", "hill", "wall", "roof", "mat", "hill", "wall", "roof", "mat", "hill"),
        strict=True,
    )
]


@pytest.fixture
def demonstrations(write_lines: WriteLines) -> Path:
    return write_lines("demonstrations.jsonl", DEMONSTRATIONS)


def tiny(model: Path, data: Path, **changes: Any) -> SFTSettings:
    values: dict[str, Any] = {
        "model": str(model), "data": [data], "epochs": 2, "batch_size": 4,
        "optimizer": {"learning_rate": 1e-2},
    }  # fmt: skip
    return SFTSettings.parse({**values, **changes})


def test_learns_and_evaluates_every_epoch(
    language_model: Path, demonstrations: Path, start_run: StartRun
) -> None:
    settings = tiny(language_model, demonstrations, evaluation_data=[demonstrations], epochs=4)
    with start_run("sft", settings) as run:
        results = train(settings, run)
    records = read_metrics(run.path / "metrics.jsonl")
    measured = {r["step"]: r["evaluation_loss"] for r in records if "evaluation_loss" in r}
    assert list(measured) == [0, 3, 6, 9, 12]
    assert measured[12] < measured[0] - 1.5
    assert results["evaluation_loss"] == measured[12]
    assert (results["steps"], results["chosen_step"], results["demonstrations"]) == (12, 12, 10)
    rates = [r["learning_rate"] for r in records if "learning_rate" in r]
    assert rates[0] == 1e-2
    assert rates[-1] == pytest.approx(0.1 * 1e-2, rel=0.2)


def test_packed_loss_is_the_padded_loss_of_responses_only(language_model: Path) -> None:
    model = load_language_model(language_model)
    trees = [
        PromptTree((5, 6, 7), ((8, 9, 1),)),
        PromptTree((10,), ((11, 12, 13, 14, 1),)),
        PromptTree((20, 21), ((22, 1),)),
    ]
    padded = pack(trees, one_sequence_per_row=True)
    with torch.no_grad():
        expected = -response_logprobs(model, padded).sum()
        for limit in (1000, 9):  # one forward pass, and several
            parts = micro_batches(model, trees, limit=limit)
            total = sum(batch_loss(model, part.batch).loss for part in parts)
            assert float(total) == pytest.approx(float(expected), rel=1e-5)
            assert sum(part.weight for part in parts) == 10  # response tokens
            assert sum(part.tokens for part in parts) == 16
            lengths = sorted(each for part in parts for each in part.sequences)
            assert lengths == [(1, (5,)), (2, (2,)), (3, (3,))]


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_interrupted_and_undisturbed_are_identical(
    language_model: Path,
    demonstrations: Path,
    start_run: StartRun,
    power_cut: PowerCut,
    dropout: float,
) -> None:
    paths = []
    for name in ("undisturbed", "disturbed"):
        settings = tiny(
            language_model, demonstrations, name=name, checkpoint_every=2,
            residual_dropout=dropout, evaluation_data=[demonstrations], choose_by="loss",
            pretraining_data=[demonstrations.with_name("texts.txt")],
        )  # fmt: skip
        demonstrations.with_name("texts.txt").write_text("The cow sat on the wall. " * 20)
        if name == "disturbed":
            with (
                power_cut("hark.training.sft.examples_of_step", call=6),
                start_run("sft", settings) as run,
            ):
                train(settings, run)
            assert run.latest_checkpoint() == run.checkpoint_path(4)
        with start_run("sft", settings) as run:
            run.finish(train(settings, run))
        paths.append(run.path)
    for file in ("metrics.jsonl", "model/model.safetensors", "results.json"):
        assert (paths[0] / file).read_bytes() == (paths[1] / file).read_bytes()


def test_residual_dropout_changes_training_but_not_evaluation(
    language_model: Path, demonstrations: Path, start_run: StartRun
) -> None:
    losses, evaluations = [], []
    for dropout in (0.0, 0.5):
        settings = tiny(
            language_model, demonstrations, residual_dropout=dropout, epochs=1,
            evaluation_data=[demonstrations],
        )  # fmt: skip
        with start_run("sft", settings) as run:
            train(settings, run)
        records = read_metrics(run.path / "metrics.jsonl")
        evaluations.append(records[0]["evaluation_loss"])
        losses.append(records[1]["loss"])
    assert evaluations[0] == evaluations[1]
    assert losses[0] != losses[1]


def test_the_reply_that_scores_highest_chooses_the_checkpoint(
    language_model: Path, demonstrations: Path, start_run: StartRun
) -> None:
    asked: list[list[Dialogue]] = []

    def score(dialogues: list[Dialogue]) -> Tensor:
        asked.append(dialogues)
        # Before training, then after epochs 1, 2, 3.
        return torch.full((len(dialogues),), [9.0, 0.0, 2.0, 1.0][len(asked) - 1])

    settings = tiny(
        language_model, demonstrations, epochs=3, evaluation_data=[demonstrations],
        choose_by="score", evaluation_samples=5, sampling={"max_response_tokens": 6},
    )  # fmt: skip
    with start_run("sft", settings) as run:
        results = train(settings, run, score=score)
    assert (results["chosen_step"], results["evaluation_score"]) == (6, 2.0)
    prompts = [dialogue[:-1] for dialogue in asked[0]]
    assert [len(dialogues) for dialogues in asked] == [5, 5, 5, 5]
    assert prompts == [dialogue[:-1] for dialogue in asked[3]]
    assert {dialogue[-1].role for dialogue in asked[0]} == {"assistant"}
    assert (run.model_path / "model.safetensors").exists()


def test_replies_can_be_drawn_in_bfloat16(
    language_model: Path, demonstrations: Path, start_run: StartRun
) -> None:
    settings = tiny(
        language_model, demonstrations, epochs=1, evaluation_data=[demonstrations],
        choose_by="score", evaluation_samples=3, sampling={"max_response_tokens": 4},
        dtype="bfloat16",
    )  # fmt: skip
    with start_run("sft", settings) as run:
        results = train(settings, run, score=lambda dialogues: torch.ones(len(dialogues)))
    assert results["evaluation_score"] == 1.0


def test_pretraining_mix_has_its_share_of_the_predicted_tokens() -> None:
    ids = torch.arange(500).numpy().astype("uint16")
    tokens = TokenFile(ids=ids, sources=(), bad_lines_skipped=0)
    mix = PretrainingMix(tokens=tokens, fraction=0.1, piece_tokens=8, seed=0)
    pieces = mix.pieces(3, response_tokens=180)
    # 180 · 0.1/0.9 = 20 predicted tokens: pieces that predict 7, 7 and 6.
    assert [len(piece.responses[0]) for piece in pieces] == [7, 7, 6]
    for piece in pieces:
        first = piece.prompt[0]
        assert piece.responses[0] == tuple(range(first + 1, first + 1 + len(piece.responses[0])))
    assert pieces == mix.pieces(3, response_tokens=180)
    assert pieces != mix.pieces(4, response_tokens=180)


def test_pretraining_mix_is_measured_apart(
    language_model: Path, demonstrations: Path, start_run: StartRun
) -> None:
    texts = demonstrations.with_name("texts.txt")
    texts.write_text("The owl sat on the roof. " * 20)
    settings = tiny(language_model, demonstrations, epochs=1, pretraining_data=[texts])
    with start_run("sft", settings) as run:
        train(settings, run)
    record = read_metrics(run.path / "metrics.jsonl")[0]
    assert record["pretraining_loss"] != record["loss"]
    assert 0 < record["pretraining_loss"] < 10


def test_what_does_not_fit_is_counted(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    rows = [
        *DEMONSTRATIONS[:3],
        {"prompt": "The cat sat. " * 40, "completion": "Yes."},
        {"prompt": "Where?", "completion": "The cat sat. " * 40},
    ]
    data = write_lines("long.jsonl", rows)
    for long_responses, expected in (("drop", (4, 1, 0, 1)), ("cut", (5, 1, 1, 0))):
        settings = tiny(language_model, data, epochs=1, long_responses=long_responses)
        with start_run("sft", settings) as run:
            results = train(settings, run)
        names = ("demonstrations", "prompts_truncated", "responses_cut", "records_dropped")
        assert tuple(results[name] for name in names) == expected


def test_fewer_demonstrations_than_a_batch(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("two.jsonl", DEMONSTRATIONS[:2])
    settings = tiny(language_model, data, epochs=3, batch_size=32)
    with start_run("sft", settings) as run:
        assert train(settings, run)["steps"] == 3


def test_nothing_that_fits_is_an_error(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("long.jsonl", [{"prompt": "Where?", "completion": "The cat sat. " * 40}])
    settings = tiny(language_model, data)
    with (
        start_run("sft", settings) as run,
        pytest.raises(DataError, match="none of the 1 demonstrations fits the context of 64"),
    ):
        train(settings, run)


def test_an_empty_response_is_an_error_that_names_the_record(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("d.jsonl", [*DEMONSTRATIONS, {"prompt": "Where?", "completion": " "}])
    settings = tiny(language_model, data)
    with (
        start_run("sft", settings) as run,
        pytest.raises(DataError, match=r"d\.jsonl.*11|11.*d\.jsonl"),
    ):
        train(settings, run)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"pretraining_fraction": 0.2}, "pretraining_fraction would be ignored"),
        ({"evaluation_every": 2}, "evaluation_every would be ignored"),
        ({"scorer": "m"}, "scorer would be ignored without evaluation_data"),
        ({"choose_by": "loss"}, "needs evaluation_data"),
        ({"evaluation_data": "d", "evaluation_samples": 3}, "ignored without a scorer"),
        ({"residual_dropout": 1.0}, "residual_dropout"),
    ],
)
def test_settings_that_contradict_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        SFTSettings.parse({"model": "m", "data": "d", **values})


def test_choosing_by_score_needs_a_scorer(
    language_model: Path, demonstrations: Path, start_run: StartRun
) -> None:
    settings = tiny(
        language_model, demonstrations, evaluation_data=[demonstrations], choose_by="score"
    )
    with start_run("sft", settings) as run, pytest.raises(SettingsError, match="set scorer"):
        train(settings, run)


def test_defaults_are_instructgpts() -> None:
    settings = SFTSettings(model="m", data=(Path("d"),))
    assert (settings.epochs, settings.batch_size) == (16, 32)
    optimizer = settings.optimizer
    assert optimizer.learning_rate == 9.65e-6
    assert (optimizer.schedule, optimizer.final_learning_rate_fraction) == ("cosine", 0.1)
    assert (optimizer.beta1, optimizer.beta2, optimizer.warmup_steps) == (0.9, 0.95, 0)


def test_tokenizer_travels_with_the_model(
    language_model: Path, demonstrations: Path, start_run: StartRun
) -> None:
    settings = tiny(language_model, demonstrations, epochs=1)
    with start_run("sft", settings) as run:
        train(settings, run)
    words = "The fox sat."
    assert load_tokenizer(run.model_path)(words) == load_tokenizer(language_model)(words)
