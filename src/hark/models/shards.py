"""Tensors on disk in shards, each written by the process that holds it.

`torch.distributed.checkpoint` keeps one file for each process that wrote and a description of which
part of which tensor is where: any number of processes can read them, each only what it needs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from hark.errors import RunError

SHARDS = "shards"
"""The subdirectory of a model's directory that holds its weights in shards."""


def write_shards(directory: Path, tensors: dict[str, Tensor]) -> None:
    """Write every process's part of `tensors` into a new directory; all processes take part.

    A tensor that is not sharded is the same in all processes and written once. Raises: RunError if
    the disk refuses.
    """
    with _explained(f"cannot write '{directory}'"):
        save(dict(tensors), checkpoint_id=directory, no_dist=not dist.is_initialized())


def read_shards(directory: Path, like: Callable[[str], Tensor | None]) -> dict[str, Tensor]:
    """Every tensor that was written, by name.

    like: a tensor whose layout over processes the one of that name is to have, where the shapes
        agree; otherwise it is read whole, onto the CPU.
    """
    metadata = FileSystemReader(directory).read_metadata().state_dict_metadata
    tensors: dict[str, Tensor] = {}
    for name, description in metadata.items():
        assert isinstance(description, TensorStorageMetadata)
        model, dtype = like(name), description.properties.dtype
        if model is not None and model.shape == description.size:
            tensors[name] = torch.zeros_like(model.detach(), dtype=dtype)
        else:
            tensors[name] = torch.zeros(description.size, dtype=dtype)
    fill_from_shards(directory, tensors)
    return tensors


def fill_from_shards(directory: Path, tensors: dict[str, Tensor]) -> None:
    """Overwrite `tensors` with what was written under their names; each process by itself.

    Raises: RunError for a name that is not there, another shape, or files that cannot be read.
    """
    with _explained(f"cannot read '{directory}'"), torch.no_grad():
        load(tensors, checkpoint_id=directory, no_dist=True)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # torch warns of its own deprecated calls, and that `no_dist` reads in one process.
            warnings.simplefilter("ignore")
            yield
    except CheckpointException as error:
        reasons = [" ".join(str(reason).split()) for reason, _ in error.failures.values()]
        raise RunError(
            f"{what}: {reasons[0] if reasons else error}; free some space or delete the newest "
            "checkpoint, then give the same command again to continue"
        ) from None
