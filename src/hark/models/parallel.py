"""A model sharded over the processes of a run: FSDP2 (`torch.distributed.fsdp.fully_shard`).

Each process holds 1/N of every weight, gradient and optimizer moment. Two ways to compute with it:

* `compute` for passes with gradients. The blocks are gathered one after the other as the pass
  reaches them and freed behind it; all processes take part at the same time, each with a
  micro-batch of its own. Gradients arrive as the *sum* over processes.
* `whole` for everything without gradients: within it each process has all weights, and computes
  what it likes, at its own pace: generation, scoring, evaluation. It needs the memory of the whole
  model (without gradients and moments), one model at a time.

A model that is not sharded passes through all of these unchanged.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from hark.errors import ModelError
from hark.models.language_model import backbone
from hark.models.processes import is_first, world_size
from hark.models.tree_layers import quicken

T = TypeVar("T")


def shard(model: nn.Module, *, bfloat16: bool) -> None:
    """Spread the model over the processes of this run, in place; nothing to do for one.

    bfloat16: on CUDA weights are gathered and computed with in bfloat16, gradients summed in
        float32 onto float32 masters. On a CPU they stay float32 and autocast does the rest.
    """
    if world_size() == 1 or isinstance(model, FSDPModule):
        return
    device = next(model.parameters()).device
    policy = MixedPrecisionPolicy()
    if bfloat16 and device.type == "cuda":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    mesh = _mesh(device.type)
    if isinstance(model, PreTrainedModel):
        quicken(
            backbone(model)
        )  # FSDP gives each layer a class of its own, made of the present one
    parts = blocks(model) if isinstance(model, PreTrainedModel) else []
    for part in (*parts, model):
        sharded = fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        # Sums, not means: the loss is divided by the weight of the whole batch.
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)
    setattr(model, "compute", types.MethodType(_call, model))  # noqa: B010
    register_fsdp_forward_method(model, "compute")
    # The module that computes first becomes the root of the gathering: not a block by itself.
    with torch.no_grad():
        compute(model, lambda: None)


def compute(model: nn.Module, function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)`, which may call any part of the model, gradients included.

    FSDP gathers what lies outside the blocks (embedding, last norm, head) when `forward` is called,
    which we never do. The result's tensors may stand in tuples, named tuples and dicts.
    """
    if not isinstance(model, FSDPModule):
        return function(*arguments)
    computing: Callable[..., T] = model.compute  # type: ignore[assignment]
    # As one opaque argument: FSDP would cast and move tensors that it finds among several.
    return computing(functools.partial(function, *arguments))


@contextlib.contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Within the block every process has all weights; no gradients, and no change of them."""
    if not isinstance(model, FSDPModule) or not model._forward_hooks:
        # Not sharded, or whole already.
        yield
        return
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    hooks = [(part._forward_pre_hooks, part._forward_hooks) for part in parts]
    with torch.no_grad():
        for part in parts:
            part.unshard()
    for part in parts:
        # FSDP's hooks note the order of passes, to gather ahead in the next backward pass: an order
        # that must be the same in all processes, and here is not.
        part._forward_pre_hooks, part._forward_hooks = OrderedDict(), OrderedDict()
    try:
        yield
    finally:
        for part, (before, after) in zip(parts, hooks, strict=True):
            part._forward_pre_hooks, part._forward_hooks = before, after
            part.reshard()


def full_state(model: nn.Module) -> dict[str, Tensor] | None:
    """The whole model's state on the CPU of the first process, tensor by tensor; None elsewhere.

    All processes take part. For a model that is not sharded: its own state, in every process.
    """
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return model.state_dict()
    gathered: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    # Tied weights are one parameter under two names: they stay one tensor.
    identity = {name: id(tensor) for name, tensor in _named_tensors(model)}
    for name, tensor in model.state_dict().items():
        key = identity[name]
        if key not in gathered:
            full = full_tensor(tensor)
            gathered[key] = full.cpu() if is_first() else torch.empty(0)
        state[name] = gathered[key]
    return state if is_first() else None


def full_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor's whole, in every process; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def laid_out_like(model: Tensor, tensor: Tensor) -> Tensor:
    """`tensor`, whole in every process or sharded already, sharded as `model` is."""
    if not isinstance(model, DTensor) or isinstance(tensor, DTensor):
        return tensor
    return distribute_tensor(tensor, model.device_mesh, model.placements, src_data_rank=None)


def blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The transformer's layers, in order. Raises: ModelError if they are not to be found."""
    lists = [part for part in backbone(model).children() if isinstance(part, nn.ModuleList)]
    if not lists:
        raise ModelError(
            f"hark does not know where a {model.config.model_type} model has its layers; train it "
            "in one process and without activation_checkpointing"
        )
    return list(max(lists, key=lambda each: len(list(each))))


def recompute_blocks(model: PreTrainedModel) -> None:
    """Keep each block's input alone for the backward pass, which computes the rest once more."""
    quicken(backbone(model))  # before its present forward pass is wrapped
    for block in blocks(model):
        block.forward = functools.partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)


def _call(_model: nn.Module, function: Callable[[], T]) -> T:
    return function()


@functools.cache
def _mesh(device_type: str) -> Any:
    return init_device_mesh(device_type, (world_size(),))


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)
