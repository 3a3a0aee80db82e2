"""Models and training states on disk: whole or not there at all.

Everything is written into a sibling directory, flushed to the disk, and renamed; a kill or a full
disk leaves the previous checkpoint as it was. A checkpoint lists the size of each of its files, so
that one torn by a copy or a crash is recognised.

    step-000200/
      config.json, model.safetensors, tokenizer.json …   the first model: a Hugging Face directory
      value/                                             any other model
      adapter_model.safetensors …                        of a model with an adapter: that alone
      state.safetensors                                  optimizer, EMA, random number generators
      state.json                                         step, scalars, file sizes; written last

In a run of several processes each writes its own shards, with torch.distributed.checkpoint, into
`shards/` (of a model, in place of its safetensors) and `state-shards/` (in place of
state.safetensors). Such a checkpoint loads like any other, in any number of processes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from hark.errors import RunError
from hark.models.lora import has_adapter, merged_state, trained_weights, write_adapter
from hark.models.parallel import full_state, full_tensor, laid_out_like
from hark.models.processes import from_first, world_size
from hark.models.shards import SHARDS, read_shards, write_shards

STATE, TENSORS, STATE_SHARDS = "state.json", "state.safetensors", "state-shards"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """What a stage needs besides its models to go on as if nothing had happened."""

    step: int
    """Optimizer steps (or iterations) done; filled by the stage."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Flat: `optimizer_tensors`, `random_tensors`, moving averages."""
    scalars: dict[str, Any] = field(default_factory=dict)
    """JSON values: data position, KL coefficient, best loss so far."""


def save_model(
    directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> None:
    """Write a Hugging Face directory with safetensors, replacing what was there.

    A sharded model is gathered in the first process, which alone writes; an adapter is merged.
    Raises: RunError if the disk refuses; the previous directory then stays as it was.
    """
    state = full_state(model)

    def write() -> None:
        assert state is not None
        with _written_aside(directory) as aside:
            _write_model(aside, model, tokenizer, state)

    from_first(write)


def save_adapter(
    directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> None:
    """Write the model's adapter in peft's format, replacing what was there.

    Raises: RunError as `save_model`.
    """
    weights = {name: full_tensor(tensor) for name, tensor in trained_weights(model).items()}

    def write() -> None:
        with _written_aside(directory) as aside:
            write_adapter(aside, model, weights)
            if tokenizer is not None:
                tokenizer.save_pretrained(aside)

    from_first(write)


def save_checkpoint(
    directory: Path,
    *,
    models: dict[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase | None,
    state: TrainingState,
) -> None:
    """Write models and training state.

    models: "" is written at the top level, any other name into the subdirectory of that name.
    In a run of several processes each writes its shards of weights and tensors.
    Raises: RunError if the disk refuses; what was there before then stays as it was.
    """
    if world_size() > 1:
        _save_sharded_checkpoint(directory, models=models, tokenizer=tokenizer, state=state)
        return
    with _written_aside(directory) as aside:
        for name, model in models.items():
            if has_adapter(model):
                write_adapter(aside / name, model, trained_weights(model))
                _write_tokenizer(aside / name, tokenizer)
            else:
                _write_model(aside / name, model, tokenizer, model.state_dict())
        tensors = {name: tensor.contiguous().cpu() for name, tensor in state.tensors.items()}
        save_file(tensors, aside / TENSORS)
        _write_state(aside, state)


def _save_sharded_checkpoint(
    directory: Path,
    *,
    models: dict[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase | None,
    state: TrainingState,
) -> None:
    aside = _place_aside(directory)

    def prepare() -> None:
        with _disk_errors_explained(directory, aside):
            shutil.rmtree(aside, ignore_errors=True)
            for name, model in models.items():
                (aside / name).mkdir(parents=True, exist_ok=True)
                if has_adapter(model):
                    write_adapter(aside / name, model, None)
                else:
                    model.config.architectures = [type(model).__name__.removeprefix("FSDP")]
                    model.config.save_pretrained(aside / name)
                    if model.can_generate():
                        model.generation_config.save_pretrained(aside / name)
                _write_tokenizer(aside / name, tokenizer)

    def finish() -> None:
        with _disk_errors_explained(directory, aside):
            _write_state(aside, state)
            _put_in_place(aside, directory)

    from_first(prepare)
    with _disk_errors_explained(directory, aside):
        for name, model in models.items():
            weights = trained_weights(model) if has_adapter(model) else model.state_dict()
            write_shards(aside / name / SHARDS, weights)
        write_shards(aside / STATE_SHARDS, state.tensors)
    from_first(finish)


def _write_state(aside: Path, state: TrainingState) -> None:
    """The last file of a checkpoint: the sizes of all others."""
    sizes = {
        path.relative_to(aside).as_posix(): path.stat().st_size
        for path in sorted(aside.rglob("*"))
        if path.is_file()
    }
    content = {"step": state.step, "scalars": state.scalars, "files": sizes}
    (aside / STATE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def is_whole(directory: Path) -> bool:
    """Whether a checkpoint has all of its files in their full size."""
    return _damage(directory) is None


def load_state(
    directory: Path, optimizers: Mapping[str, torch.optim.Optimizer] = MappingProxyType({})
) -> TrainingState:
    """Read the training state of a checkpoint, on the CPU.

    optimizers: by the prefix of their tensors; of a sharded checkpoint each process reads only what
        belongs to its shards of their parameters.
    Raises: RunError if the checkpoint is torn.
    """
    if damage := _damage(directory):
        raise RunError(
            f"checkpoint '{directory}' is not whole: {damage}; delete it to go on from the one "
            "before"
        )
    content = json.loads((directory / STATE).read_text(encoding="utf-8"))
    step, scalars = content["step"], content["scalars"]
    if (directory / STATE_SHARDS).is_dir():
        like = _parameters_by_name(optimizers)
        tensors = read_shards(directory / STATE_SHARDS, lambda name: like.get(_without_name(name)))
        return TrainingState(step=step, tensors=tensors, scalars=scalars)
    try:
        # Cloned to aligned addresses, where kernels round as they did before the checkpoint.
        tensors = {name: tensor.clone() for name, tensor in load_file(directory / TENSORS).items()}
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"cannot read '{directory / TENSORS}' ({error}); delete the checkpoint to go on from "
            "the one before"
        ) from None
    return TrainingState(step=step, tensors=tensors, scalars=scalars)


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, prefix: str = "optimizer"
) -> dict[str, Tensor]:
    """The optimizer's state, flat: `<prefix>.<number of the parameter>.<name>`.

    Settings such as the learning rate are not state: a resumed stage builds them anew.
    """
    return {
        f"{prefix}.{number}.{name}": torch.as_tensor(value)
        for number, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], prefix: str = "optimizer"
) -> None:
    """Put back what `optimizer_tensors` took out, bit for bit.

    Raises: RunError if the tensors belong to other parameters.
    """
    parameters = _parameters(optimizer)
    for key, tensor in tensors.items():
        if not key.startswith(f"{prefix}."):
            continue
        number, name = key.removeprefix(f"{prefix}.").split(".", 1)
        parameter = parameters[int(number)] if int(number) < len(parameters) else None
        if parameter is None or (tensor.dim() and tensor.shape != parameter.shape):
            raise RunError(
                f"the checkpoint's optimizer state '{key}' {list(tensor.shape)} fits no parameter "
                "of this model; resume with the model and settings it was written by"
            )
        # Moments follow the weights. Counters stay on the CPU, where torch's optimizers keep them,
        # but for the fused kernel, which reads them beside the weights.
        if tensor.dim() or optimizer.defaults.get("fused"):
            tensor = tensor.to(parameter.device)
        if tensor.dim():
            tensor = laid_out_like(parameter, tensor)
        optimizer.state[parameter][name] = tensor.clone()


def random_tensors() -> dict[str, Tensor]:
    """State of torch's global random number generators (dropout draws from them)."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    return tensors


def restore_random(tensors: dict[str, Tensor]) -> None:
    """Put back what `random_tensors` took out."""
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])


def _parameters_by_name(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """`<prefix>.<number>` to the parameter whose moments bear that name."""
    return {
        f"{prefix}.{number}": parameter
        for prefix, optimizer in optimizers.items()
        for number, parameter in enumerate(_parameters(optimizer))
    }


def _without_name(key: str) -> str:
    return key.rpartition(".")[0]


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _write_model(
    directory: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    state: dict[str, Tensor],
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    transformers_logging.disable_progress_bar()
    if has_adapter(model):
        state = merged_state(model, state)
    model.save_pretrained(directory, state_dict=state)
    _write_tokenizer(directory, tokenizer)


def _write_tokenizer(directory: Path, tokenizer: PreTrainedTokenizerBase | None) -> None:
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)


def _damage(directory: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        content = json.loads((directory / STATE).read_text(encoding="utf-8"))
        sizes: dict[str, int] = content["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"it has no readable {STATE}"
    for name, size in sizes.items():
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    return None


@contextmanager
def _written_aside(directory: Path) -> Iterator[Path]:
    """Yield an empty sibling directory that takes the place of `directory` if all goes well."""
    aside = _place_aside(directory)
    with _disk_errors_explained(directory, aside):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        _put_in_place(aside, directory)


def _place_aside(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.writing")


def _put_in_place(aside: Path, directory: Path) -> None:
    """Flush what was written aside and let it replace `directory`."""
    before = directory.with_name(f".{directory.name}.replaced")
    for path in (*aside.rglob("*"), aside):
        _flush(path)
    if directory.exists():
        shutil.rmtree(before, ignore_errors=True)
        directory.rename(before)
    aside.rename(directory)
    _flush(directory.parent)
    shutil.rmtree(before, ignore_errors=True)


@contextmanager
def _disk_errors_explained(directory: Path, aside: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise RunError(
            f"cannot write '{directory}': {reason}; free some space or choose another --output, "
            "then run the same command again to continue"
        ) from None


def _flush(path: Path) -> None:
    """Wait until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
