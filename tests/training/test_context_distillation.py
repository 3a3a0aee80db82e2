from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from hark.errors import DataError, SettingsError
from hark.evaluation.prompted import context_gap
from hark.models.language_model import load_language_model
from hark.models.packing import PromptTree, pack
from hark.models.tokenizer import load_tokenizer
from hark.runs.metrics import read_metrics
from hark.runs.run import Run
from hark.training import sft
from hark.training.context_distillation import divergences, micro_batches, train
from hark.training.distill_settings import DistillSettings
from hark.training.teacher import after_context, encode_context, predictions
from hark.training.teacher_file import Taught, TeacherFile

StartRun = Callable[..., Run]
PowerCut = Callable[..., AbstractContextManager[None]]

CONTEXT = "It was a windy day, and the fox sat on the wall."
TEXTS = "".join(
    f"The {animal} sat on the {place}.\n" for animal in ("cat", "hen") for place in ("mat", "hill")
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "context.txt").write_text(CONTEXT + "\n")
    lines = [f'{{"text": "{line}"}}\n' for line in TEXTS.splitlines() * 6]
    (tmp_path / "texts.jsonl").write_text("".join(lines))
    (tmp_path / "questions.jsonl").write_text(
        "".join(f'{{"prompt": "the {word}"}}\n' for word in ("cat", "owl", "cow"))
    )
    return tmp_path


def tiny(model: Path, files: Path, **changes: Any) -> DistillSettings:
    values: dict[str, Any] = {
        "model": str(model), "context": files / "context.txt", "data": [files / "texts.jsonl"],
        "question_data": [files / "questions.jsonl"], "tokens": 200, "batch_size": 4,
        "sampling": {"max_response_tokens": 8}, "classes": 10, "epochs": 2,
        "evaluation_data": [files / "texts.jsonl"], "optimizer": {"learning_rate": 1e-2},
    }  # fmt: skip
    return DistillSettings.parse({**values, **changes})


def learnt(model: Path, start_run: StartRun, files: Path) -> Path:
    """A model that has seen the texts, so that a context means something to it."""
    settings = sft.SFTSettings.parse(
        {"model": str(model), "data": [files / "demonstrations.jsonl"], "epochs": 6,
         "batch_size": 4, "optimizer": {"learning_rate": 1e-2}}
    )  # fmt: skip
    rows = [f'{{"prompt": "Hello", "completion": "{line}"}}\n' for line in TEXTS.splitlines() * 4]
    (files / "demonstrations.jsonl").write_text("".join(rows))
    with start_run("sft", settings) as run:
        sft.train(settings, run)
    return run.model_path


def test_the_teacher_sees_the_context_and_the_student_starts_at_position_nought(
    language_model: Path,
) -> None:
    model = load_language_model(language_model)
    tree = PromptTree((7, 8), ((9, 10, 11),))
    context = (20, 21, 22)
    read = after_context(context, tree, None)
    assert read == PromptTree((20, 21, 22, 7, 8), ((9, 10, 11),))
    packed = pack([read], one_sequence_per_row=True)
    taught = Taught(tree=tree, classes=predictions(model, packed, 300))
    (batch,) = micro_batches(model, [taught], limit=1000)
    assert batch.batch.packed.tokens.flatten().tolist()[:5] == [7, 8, 9, 10, 11]
    assert batch.batch.packed.positions.flatten().tolist()[:5] == [0, 1, 2, 3, 4]
    with torch.no_grad():
        found = divergences(model, batch.batch.packed, batch.batch.teacher)
        logits = model(torch.tensor([[20, 21, 22, 7, 8, 9, 10]])).logits[0, 4:].log_softmax(-1)
        plain = model(torch.tensor([[7, 8, 9, 10]])).logits[0, 1:].log_softmax(-1)
    expected = (logits.exp() * (logits - plain)).sum(-1)
    assert torch.allclose(found, expected, atol=1e-5)
    assert float(expected.sum()) > 1e-3, "the context says nothing here: nothing was tested"


def test_the_token_that_begins_texts_stays_with_the_context() -> None:
    tree = PromptTree((1, 7), ((9,),))
    assert after_context((1, 20), tree, 1).prompt == (1, 20, 7)
    assert after_context((20,), tree, None).prompt == (20, 1, 7)


def test_the_loss_does_not_depend_on_how_the_batch_is_laid_out(language_model: Path) -> None:
    model = load_language_model(language_model)
    trees = [PromptTree((5, 6), ((8, 9, 1),)), PromptTree((10,), ((11, 12, 13, 14, 1),))]
    taught = []
    for tree in trees:
        packed = pack([after_context((30, 31), tree, None)], one_sequence_per_row=True)
        taught.append(Taught(tree=tree, classes=predictions(model, packed, 5)))
    with torch.no_grad():
        totals = [
            sum(
                float(divergences(model, part.batch.packed, part.batch.teacher).sum())
                for part in micro_batches(model, taught, limit=limit)
            )
            for limit in (1000, 5)
        ]
    # The sum of seven tokens' differences of two log-probabilities of some 6 nats, each of which is
    # rounded by up to 2.4e-7; an error of layout would change it as a whole.
    assert totals[0] == pytest.approx(totals[1], abs=7 * 2 * 2.4e-7)
    assert totals[0] > 1e-4


def test_half_texts_half_answers_are_learnt_and_the_gap_closes(
    language_model: Path, files: Path, start_run: StartRun
) -> None:
    base = learnt(language_model, start_run, files)
    settings = tiny(base, files, epochs=12, tokens=400)
    with start_run("distill", settings) as run:
        results = train(settings, run)
    assert results["text_tokens"] >= 200
    assert results["answers"] == 3
    records = read_metrics(run.path / "metrics.jsonl")
    measured = [r["evaluation_loss"] for r in records if "evaluation_loss" in r]
    assert measured[-1] < 0.5 * measured[0]
    tokenizer = load_tokenizer(base)
    gap = context_gap(
        load_language_model(base), load_language_model(run.model_path),
        encode_context(tokenizer, settings.context),
        tokenizer(TEXTS.splitlines(), add_special_tokens=False)["input_ids"],
    )  # fmt: skip
    assert gap.before.value is not None
    assert gap.after.value is not None
    assert gap.closed.value == pytest.approx(1 - gap.after.value / gap.before.value)
    assert gap.closed.value > 0.5


@pytest.mark.parametrize("where", ["teacher", "student"])
def test_interrupted_and_undisturbed_are_identical(
    language_model: Path, files: Path, start_run: StartRun, power_cut: PowerCut, where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("hark.training.teacher.BLOCK_EXAMPLES", 2)
    cut = {
        "teacher": ("hark.training.teacher.predictions", 4),
        "student": ("hark.training.context_distillation.examples_of_step", 6),
    }[where]
    paths = []
    for name in ("undisturbed", "disturbed"):
        settings = tiny(language_model, files, name=name, checkpoint_every=2)
        if name == "disturbed":
            with power_cut(cut[0], call=cut[1]), start_run("distill", settings) as run:
                train(settings, run)
        with start_run("distill", settings) as run:
            run.finish(train(settings, run))
        paths.append(run.path)
    files_of_run = (
        "metrics.jsonl", "model/model.safetensors", "results.json", "data/teacher-texts.bin",
        "data/teacher-answers.bin", "data/teacher-evaluation.bin",
    )  # fmt: skip
    for file in files_of_run:
        assert (paths[0] / file).read_bytes() == (paths[1] / file).read_bytes(), file


def test_all_text_without_questions(language_model: Path, files: Path, start_run: StartRun) -> None:
    settings = DistillSettings.parse(
        {"model": str(language_model), "context": files / "context.txt", "row_tokens": 4,
         "data": [files / "texts.jsonl"], "tokens": 50, "batch_size": 8}
    )  # fmt: skip
    with start_run("distill", settings) as run:
        results = train(settings, run)
    assert results["answers"] == 0
    file = TeacherFile.open(run.data_path("teacher-texts.bin"), classes=50, vocabulary=300)
    assert max(len(file[number].tree.responses[0]) for number in range(len(file))) == 3


def test_what_cannot_be_distilled_is_refused(
    language_model: Path, files: Path, start_run: StartRun
) -> None:
    with pytest.raises(SettingsError, match="text_share would be ignored"):
        tiny(language_model, files, question_data=[], text_share=0.5)
    for content, message in (("  \n", "is empty"), ("windy day " * 60, "leaves nothing")):
        (files / "context.txt").write_text(content)
        settings = DistillSettings.parse(
            {"model": str(language_model), "context": files / "context.txt",
             "data": [files / "texts.jsonl"], "name": message.split()[0]}
        )  # fmt: skip
        with start_run("distill", settings) as run, pytest.raises(DataError, match=message):
            train(settings, run)
