"""One process's side of it; several are in tests/training/test_parallel.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hark.errors import RunError
from hark.models import parallel, processes
from hark.models.language_model import Architecture, new_language_model
from hark.models.logprobs import token_losses
from hark.models.packing import PromptTree, plan_batches, rows_per_pass
from hark.models.shards import read_shards, write_shards

TINY = Architecture(width=32, layers=2, heads=2, mlp_width=48, named_vocabulary=64)
ROWS = torch.arange(24).view(2, 12)


def gradients(*, recompute: bool) -> list[Tensor]:
    model = new_language_model(
        TINY, vocabulary_size=64, context_length=16, seed=1, pad_token_id=0, eos_token_id=1
    )
    forwards: list[int] = []
    if recompute:
        parallel.recompute_blocks(model)
    parallel.blocks(model)[0].mlp.gate_proj.register_forward_pre_hook(lambda *_: forwards.append(1))
    parallel.compute(model, lambda: token_losses(model, ROWS).sum()).backward()
    assert len(forwards) == (2 if recompute else 1)
    with torch.no_grad():
        token_losses(model, ROWS)
    assert len(forwards) == (3 if recompute else 2)
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_recomputed_activations_give_the_same_gradients() -> None:
    for kept, recomputed in zip(gradients(recompute=False), gradients(recompute=True), strict=True):
        assert torch.equal(kept, recomputed)


def trees(*sizes: int) -> list[PromptTree]:
    return [PromptTree((1,), (tuple(range(size - 1)),)) for size in sizes]


def test_shares_are_as_many_and_nearly_as_large() -> None:
    # 40 tokens at most 15 a group need 3 groups, so 4 for two processes: 10 each at best.
    sizes = (9, 8, 7, 6, 5, 3, 2)
    groups = plan_batches(trees(*sizes), 15, shares=2)
    assert sorted(index for group in groups for index in group) == list(range(7))
    assert sorted(sum(sizes[index] for index in group) for group in groups) == [9, 10, 10, 11]
    # One tree beyond the limit still has a group; fewer trees than processes leave some idle.
    assert plan_batches(trees(30, 4), 15, shares=2) == [[0], [1]]
    assert plan_batches(trees(5), 15, shares=4) == [[0]]


def test_rows_are_cut_into_a_multiple_of_the_shares() -> None:
    # 10 rows of 8 tokens: at most 3 a pass make 4 passes, for two processes 2 rounds of 5 rows.
    assert rows_per_pass(10, 8, 24) == 3
    assert rows_per_pass(10, 8, 24, shares=2) == 3
    # At most 5 a pass are 2 passes; for four processes 1 round of 4 passes.
    assert rows_per_pass(10, 8, 40, shares=4) == 3
    assert rows_per_pass(1, 8, 40, shares=4) == 1
    assert rows_per_pass(4, 8, 1, shares=2) == 1


def test_one_process_is_a_run_by_itself() -> None:
    items = [3, 1, 2]
    assert processes.own_share(items) is items
    assert processes.gather_shares(items) == items
    assert processes.gather("x") == ["x"]
    assert processes.from_first(lambda: 7) == 7
    with processes.first_before_others(), pytest.raises(RunError, match="mine"):
        processes.from_first(lambda: (_ for _ in ()).throw(RunError("mine")))


def test_errors_of_torch_are_explained_only_among_several(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="shapes"), processes.lost_processes_explained():
        raise RuntimeError("Connection of shapes")
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    with pytest.raises(RuntimeError, match="shapes"), processes.lost_processes_explained():
        raise RuntimeError("shapes differ")
    lost = pytest.raises(RunError, match=r"\(gloo: closed\).*same command again")
    with lost, processes.lost_processes_explained():
        raise RuntimeError("gloo:\n closed")


def test_shards_of_one_process_read_back(tmp_path: Path) -> None:
    written = {"a": torch.arange(6.0).view(2, 3), "b.step": torch.tensor(4.0)}
    write_shards(tmp_path / "shards", written)
    read = read_shards(tmp_path / "shards", lambda name: None)
    assert all(torch.equal(read[name], tensor) for name, tensor in written.items())
    (part,) = (tmp_path / "shards").glob("*.distcp")
    part.unlink()
    with pytest.raises(RunError, match="cannot read .*shards.*delete the newest"):
        read_shards(tmp_path / "shards", lambda name: None)
