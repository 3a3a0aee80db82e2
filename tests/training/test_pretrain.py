from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hark.data.records import ask
from hark.errors import DataError, SettingsError
from hark.models.language_model import SIZES, load_language_model
from hark.models.logprobs import token_losses
from hark.models.tokenizer import encode_prompt, load_tokenizer
from hark.runs.metrics import read_metrics
from hark.runs.run import Run
from hark.training.pretrain import PretrainSettings, row_order, steps_to_train, train
from hark.training.token_file import Source, TokenFile

StartRun = Callable[..., Run]
WriteLines = Callable[..., Path]
PowerCut = Callable[..., AbstractContextManager[None]]

SENTENCES = [
    {"text": f"{name} likes {thing}. {name} has {thing}."}
    for name in ("Ann", "Ben", "Cleo", "Dan", "Eve", "Fay")
    for thing in ("tea", "bread", "plums", "rice", "milk", "figs", "corn")
]


def tiny(data: Path, **changes: Any) -> PretrainSettings:
    values: dict[str, Any] = {
        "data": [str(data)], "size": "0.5m", "vocabulary_size": 280, "context_length": 32,
        "batch_tokens": 128, "steps": 8,
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 2},
    }  # fmt: skip
    return PretrainSettings.parse({**values, **changes})


def test_learns_from_scratch_and_leaves_model_tokenizer_and_tokens(
    write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("texts.jsonl", SENTENCES)
    held_out = write_lines("held-out.jsonl", SENTENCES[:5])
    settings = tiny(data, evaluation_data=[held_out], steps=12)
    with start_run("pretrain", settings) as run:
        results = train(settings, run)
    records = read_metrics(run.path / "metrics.jsonl")
    before, *_, after = [r["evaluation_loss"] for r in records if "evaluation_loss" in r]
    assert before == pytest.approx(math.log(280), abs=0.7)
    assert after < before - 1.0
    assert results["evaluation_loss"] == after
    assert (results["steps"], results["tokens"]) == (12, 12 * 4 * 32)
    assert (results["documents"], results["bad_lines_skipped"]) == (42, 0)
    tokenizer = load_tokenizer(run.model_path)
    tokens = np.fromfile(run.data_path("tokens.bin"), dtype=np.uint16)
    assert tokenizer.decode(tokens[:30].tolist()).startswith("Ann likes tea. Ann has tea.<|end|>")
    assert load_language_model(run.model_path).config.hidden_size == SIZES["0.5m"].width


def test_training_further_can_change_how_the_model_is_spoken_to(
    write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("texts.jsonl", SENTENCES)
    with start_run("pretrain", first := tiny(data, steps=1)) as base:
        train(first, base)
    further = PretrainSettings.parse(
        {"data": [str(data)], "model": str(base.path), "template": "continuation",
         "context_length": 32, "batch_tokens": 128, "steps": 1}
    )  # fmt: skip
    with start_run("pretrain", further) as run:
        train(further, run)
    spoken_to = load_tokenizer(run.model_path)
    assert spoken_to.decode(encode_prompt(spoken_to, ask("Ann likes"))) == "Ann likes"
    own = load_tokenizer(base.model_path)
    assert own.decode(encode_prompt(own, ask("Ann likes"))).endswith("\n\nAssistant:")


def test_held_out_loss_counts_every_token_once(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("texts.jsonl", SENTENCES)
    held_out = write_lines("held-out.jsonl", [{"text": "The cat sat. " * 9}])
    settings = PretrainSettings(
        data=(str(data),), evaluation_data=(held_out,), model=str(language_model), steps=1,
        context_length=32, batch_tokens=64,
    )  # fmt: skip
    with start_run("pretrain", settings) as run:
        train(settings, run)
    measured = read_metrics(run.path / "metrics.jsonl")[0]["evaluation_loss"]
    model = load_language_model(language_model)
    ids = torch.from_numpy(
        np.fromfile(run.data_path("evaluation-tokens.bin"), dtype=np.uint16).astype(np.int64)
    )
    assert 32 < len(ids) < 64
    # By hand: row 1 is tokens 0…31, row 2 starts again from token 31.
    parts = [ids[None, :32], ids[None, 31:]]
    with torch.no_grad():
        losses = torch.cat([token_losses(model, part).flatten() for part in parts])
    assert len(losses) == len(ids) - 1
    assert measured == pytest.approx(float(losses.mean()), rel=1e-5)


def test_interrupted_and_undisturbed_are_identical(
    write_lines: WriteLines, start_run: StartRun, power_cut: PowerCut
) -> None:
    data = write_lines("texts.jsonl", SENTENCES)
    paths = []
    for name in ("undisturbed", "disturbed"):
        settings = tiny(data, name=name, checkpoint_every=3, evaluation_data=[data])
        if name == "disturbed":
            with (
                power_cut("hark.training.pretrain.micro_batches", call=7),
                start_run("pretrain", settings) as run,
            ):
                train(settings, run)
            assert [path.name for path in run.checkpoints()] == ["step-000003"]
        with start_run("pretrain", settings) as run:
            assert run.resumed == (name == "disturbed")
            results = train(settings, run)
            run.finish(results)
        paths.append(run.path)
    for file in ("metrics.jsonl", "model/model.safetensors", "results.json"):
        assert (paths[0] / file).read_bytes() == (paths[1] / file).read_bytes()


def token_file(*sizes: int) -> TokenFile:
    starts = np.cumsum((0, *sizes))
    sources = tuple(
        Source(name=f"s{number}", start=int(start), tokens=size, documents=1)
        for number, (start, size) in enumerate(zip(starts, sizes, strict=False))
    )
    ids = np.zeros(sum(sizes), dtype=np.uint16)
    return TokenFile(ids=ids, sources=sources, bad_lines_skipped=0)


def test_without_weights_every_row_comes_once_an_epoch() -> None:
    order = row_order(token_file(11, 5, 8), None, row_tokens=3, seed=0)
    # (tokens − 1) // 2 whole rows: 5, 2, 3.
    assert order.row_counts == (5, 2, 3)
    everything = [(s, r) for s, count in enumerate((5, 2, 3)) for r in range(count)]
    first = [order.locate(position) for position in range(10)]
    second = [order.locate(position) for position in range(10, 20)]
    assert sorted(first) == sorted(second) == everything
    assert first != second


def test_weights_are_shares_of_the_rows() -> None:
    order = row_order(token_file(41, 41), [3.0, 1.0], row_tokens=3, seed=0)
    counts = Counter(order.locate(position)[0] for position in range(40))
    assert counts == {0: 30, 1: 10}


def test_how_long_to_train() -> None:
    order = row_order(token_file(41), None, row_tokens=3, seed=0)  # 20 rows

    def steps(**values: Any) -> int:
        settings = PretrainSettings(data=("x",), context_length=3, batch_tokens=9, **values)
        return steps_to_train(settings, order)

    assert steps() == 7  # 20 rows by 3
    assert steps(steps=5) == 5
    assert steps(tokens=100) == 12  # 34 rows of 3 tokens, by 3


def test_one_pass_reads_every_row_and_no_more(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("texts.jsonl", SENTENCES)
    settings = PretrainSettings(
        data=(str(data),), model=str(language_model), context_length=32, batch_tokens=256
    )
    with start_run("pretrain", settings) as run:
        results = train(settings, run)
    assert results["tokens"] == 32 * ((results["data_tokens"] - 1) // 31)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"data": ["a=2", "b"]}, "'b' has no weight"),
        ({"data": ["a=-1"]}, "positive number"),
        ({"model": "m", "size": "3m"}, "size would be ignored"),
        ({"tokenizer": "t", "vocabulary_size": 300}, "vocabulary_size would be ignored"),
        ({"steps": 3, "tokens": 100}, "give one of them"),
        ({"evaluation_every": 5}, "evaluation_every would be ignored"),
    ],
)
def test_settings_that_contradict_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        PretrainSettings.parse({"data": ["a"], **values})


def test_too_little_text_is_an_error(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("texts.jsonl", [{"text": "The cat."}])
    settings = PretrainSettings(data=(str(data),), model=str(language_model), context_length=64)
    with (
        start_run("pretrain", settings) as run,
        pytest.raises(DataError, match=r"texts.jsonl' has \d+ tokens, less than one row of 64"),
    ):
        train(settings, run)


def test_context_beyond_the_model_is_an_error(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("texts.jsonl", SENTENCES)
    settings = PretrainSettings(data=(str(data),), model=str(language_model), context_length=128)
    with (
        start_run("pretrain", settings) as run,
        pytest.raises(
            SettingsError, match="context_length 128 is beyond the model's context of 64"
        ),
    ):
        train(settings, run)


def test_skipped_lines_are_counted_and_kept(
    language_model: Path, write_lines: WriteLines, start_run: StartRun
) -> None:
    data = write_lines("texts.jsonl", SENTENCES)
    with data.open("a") as file:
        file.write("not json\n")
    settings = PretrainSettings(
        data=(str(data),), model=str(language_model), context_length=32, steps=1, batch_tokens=64
    )
    with start_run("pretrain", settings) as run, pytest.raises(DataError, match=r"jsonl:43"):
        train(settings, run)
    skipping = settings.model_copy(update={"on_bad_line": "skip"})
    with start_run("pretrain", skipping) as run:
        assert train(skipping, run)["bad_lines_skipped"] == 1
        assert list((run.path / "skipped").iterdir())
