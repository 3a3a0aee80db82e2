from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from hark.errors import RunError
from hark.models.checkpoint import (
    TrainingState,
    is_whole,
    load_state,
    optimizer_tensors,
    random_tensors,
    restore_optimizer,
    restore_random,
    save_checkpoint,
    save_model,
)
from hark.models.language_model import Architecture, load_language_model, new_language_model
from hark.models.logprobs import token_losses
from hark.models.scalar_head import load_scalar_model, new_scalar_model
from hark.models.tokenizer import load_tokenizer, train_tokenizer

TINY = Architecture(width=32, layers=2, heads=2, mlp_width=48, named_vocabulary=300)
TOKENIZER = train_tokenizer(["some text"], vocabulary_size=258)
ROWS = torch.arange(2, 42).view(4, 10)


def tiny() -> PreTrainedModel:
    return new_language_model(
        TINY, vocabulary_size=300, context_length=32, seed=0, pad_token_id=0, eos_token_id=1
    )


def save(directory: Path, step: int = 3) -> PreTrainedModel:
    model = tiny()
    state = TrainingState(
        step=step,
        tensors={"moving": torch.tensor([1.5, -2.0]), "empty": torch.zeros(0)},
        scalars={"kl_coefficient": 0.1, "position": [1, 2], "best": None},
    )
    models = {"": model, "value": new_scalar_model(model)}
    save_checkpoint(directory, models=models, tokenizer=TOKENIZER, state=state)
    return model


@contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """No file may grow beyond this size, which writers see as a disk that refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model = save(tmp_path / "step-000003")
    state = load_state(tmp_path / "step-000003")
    assert state.step == 3
    assert state.scalars == {"kl_coefficient": 0.1, "position": [1, 2], "best": None}
    assert state.tensors["moving"].tolist() == [1.5, -2.0]
    assert state.tensors["empty"].shape == (0,)
    assert is_whole(tmp_path / "step-000003")
    again = load_language_model(tmp_path / "step-000003")
    assert torch.equal(token_losses(again, ROWS), token_losses(model, ROWS))
    load_scalar_model(tmp_path / "step-000003" / "value")
    assert load_tokenizer(tmp_path / "step-000003").get_vocab() == TOKENIZER.get_vocab()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000003"]


def test_saving_again_replaces(tmp_path: Path) -> None:
    save(tmp_path / "one", step=1)
    (tmp_path / "one" / "left-over").write_text("x")
    save(tmp_path / "one", step=2)
    assert load_state(tmp_path / "one").step == 2
    assert not (tmp_path / "one" / "left-over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("name", ["state.safetensors", "value/model.safetensors", "config.json"])
def test_a_torn_checkpoint_is_recognised(tmp_path: Path, name: str) -> None:
    save(tmp_path / "one")
    file = tmp_path / "one" / name
    file.write_bytes(file.read_bytes()[:-1])
    assert not is_whole(tmp_path / "one")
    with pytest.raises(RunError, match=rf"not whole: {name} has \d+ bytes instead of"):
        load_state(tmp_path / "one")
    file.unlink()
    with pytest.raises(RunError, match=f"not whole: {name} is missing"):
        load_state(tmp_path / "one")


@pytest.mark.parametrize("content", [None, "", "[]", '{"step": 1}'])
def test_a_checkpoint_without_its_last_file_is_torn(tmp_path: Path, content: str | None) -> None:
    save(tmp_path / "one")
    file = tmp_path / "one" / "state.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert not is_whole(tmp_path / "one")
    with pytest.raises(RunError, match=r"no readable state.json"):
        load_state(tmp_path / "one")


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path: Path) -> None:
    save(tmp_path / "one", step=1)
    with full_disk(20_000), pytest.raises(RunError, match="cannot write .*one': .*free some space"):
        save(tmp_path / "one", step=2)
    assert load_state(tmp_path / "one").step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_model_that_cannot_be_written_leaves_the_previous_one(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny(), TOKENIZER)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with full_disk(20_000), pytest.raises(RunError, match="cannot write"):
        save_model(tmp_path / "model", tiny(), TOKENIZER)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot write .*Not a directory"):
        save_model(tmp_path / "file" / "model", tiny(), None)


def train(model: PreTrainedModel, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = token_losses(model, ROWS).mean() + 0.1 * torch.rand(())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", ["adamw", "momentum"])
def test_training_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    def build(model: PreTrainedModel) -> torch.optim.Optimizer:
        groups = [{"params": [p]} for p in model.parameters()]
        if kind == "adamw":
            return torch.optim.AdamW(groups, lr=1e-2)
        return torch.optim.SGD(groups, lr=1e-2, momentum=0.9)

    model = tiny()
    optimizer = build(model)
    train(model, optimizer, 3)
    tensors = {**optimizer_tensors(optimizer), **random_tensors()}
    state = TrainingState(step=3, tensors=tensors)
    save_checkpoint(tmp_path / "c", models={"": model}, tokenizer=None, state=state)
    expected = train(model, optimizer, 4)

    torch.manual_seed(99)
    again = load_language_model(tmp_path / "c")
    resumed = build(again)
    tensors = load_state(tmp_path / "c").tensors
    restore_optimizer(resumed, tensors)
    restore_random(tensors)
    assert train(again, resumed, 4) == expected
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_two_optimizers_share_a_checkpoint_by_prefix() -> None:
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizers = [torch.optim.AdamW([p], lr=0.1) for p in (first, second)]
    first.grad, second.grad = torch.ones(2), torch.full((2,), 2.0)
    for optimizer in optimizers:
        optimizer.step()
    tensors = optimizer_tensors(optimizers[0], "policy") | optimizer_tensors(optimizers[1], "value")
    fresh = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    restore_optimizer(fresh, tensors, "value")
    # Adam's first moment after one step is (1 − β₁) g = 0.1 · 2.
    moment = fresh.state[fresh.param_groups[0]["params"][0]]["exp_avg"]
    torch.testing.assert_close(moment, torch.full((2,), 0.2))


@pytest.mark.parametrize(("fused", "where"), [(True, "meta"), (None, "cpu")])
def test_counters_lie_where_the_optimizer_reads_them(fused: bool | None, where: str) -> None:
    # "meta" stands for any device but the CPU.
    parameter = torch.nn.Parameter(torch.empty(2, device="meta"))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=fused)
    tensors = {"optimizer.0.step": torch.tensor(3.0), "optimizer.0.exp_avg": torch.ones(2)}
    restore_optimizer(optimizer, tensors)
    assert optimizer.state[parameter]["step"].device.type == where
    assert optimizer.state[parameter]["exp_avg"].device.type == "meta"


def test_an_optimizer_of_another_model_is_refused() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones(2)
    optimizer.step()
    other = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))], lr=0.1)
    with pytest.raises(RunError, match=r"optimizer.0.exp_avg' \[2\] fits no parameter"):
        restore_optimizer(other, optimizer_tensors(optimizer))
