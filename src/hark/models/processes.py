"""The processes of one run: who they are, and what they tell each other.

`torchrun --nproc-per-node N -m hark …` starts N processes and says in the environment which is
which. They join in a process group: gloo between CPUs, NCCL between GPUs, and beside it a patient
gloo group over which small Python values travel, because the others may wait for hours while the
first one tokenises. Without torchrun there is one process and every function here is a plain one.

How a run ends when one process does not go on:
1. A process dies: gloo notices at once, torchrun within a second, and ends the others.
2. A process hangs: a collective waits for `COLLECTIVE_TIMEOUT`, then fails in every other process.
Either way the same command continues from the last checkpoint.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hark.errors import HarkError, RunError, SettingsError

T = TypeVar("T")

COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=30)
"""How long a process waits in a computation for another that does not come."""
PATIENCE = datetime.timedelta(days=7)
"""How long it waits while another does work of its own, such as tokenising."""

_SIGNS_OF_LOSS = ("gloo", "nccl", "connection", "timed out", "timeout", "socket")
"""Words in torch's messages when another process cannot be reached."""

_patient_group: dist.ProcessGroup | None = None
_works_alone = False
"""Whether this is the first process, at work for all others while they wait in `from_first`."""


def join(device: str) -> None:
    """Join the other processes that torchrun started; nothing to do without any, or once joined.

    Args: device: the setting; each process of a machine takes the GPU of its own number.
    Raises: SettingsError for one fixed GPU, or fewer GPUs than processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    on_cuda = device != "cpu" and torch.cuda.is_available()
    if on_cuda:
        _take_own_gpu(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", timeout=COLLECTIVE_TIMEOUT)
    global _patient_group
    _patient_group = dist.new_group(backend="gloo", timeout=PATIENCE)
    atexit.register(_leave)
    _say_why_when_terminated()


def _leave() -> None:
    """End the groups before Python ends.

    A thread of gloo may still hold the tensors of the last message, which goes by the patient
    group. To give them up it needs Python; while that ends, the process would abort. A group ends
    its threads when nothing refers to it.
    """
    global _patient_group
    _patient_group = None
    dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes take part in what is being done."""
    return dist.get_world_size() if dist.is_initialized() and not _works_alone else 1


def is_first() -> bool:
    """Whether this is the process that writes files and speaks."""
    return rank() == 0


def own_share(items: Sequence[T]) -> Sequence[T]:
    """Every `world_size`-th of `items`, beginning at the rank: together all of them, once."""
    return items[rank() :: world_size()] if world_size() > 1 else items


def own_piece(items: Sequence[T]) -> Sequence[T]:
    """One of `world_size` pieces of neighbours: together all of `items`, once.

    For items of which neighbours often have something in common, such as their prompt.
    """
    count, processes = len(items), world_size()
    return items[count * rank() // processes : count * (rank() + 1) // processes]


def gather(value: T) -> list[T]:
    """The values of all processes in the order of their ranks; each process gets them all."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=_patient_group)
    return values


def gather_shares(values: Sequence[T]) -> list[T]:
    """What became of each item dealt out by `own_share`, in the order of the items."""
    parts = gather(list(values))
    if len(parts) == 1:
        return parts[0]
    return [part[place] for place in range(len(parts[0])) for part in parts if place < len(part)]


def gather_pieces(values: Sequence[T]) -> list[T]:
    """What became of each item dealt out by `own_piece`, in the order of the items."""
    return [value for part in gather(list(values)) for value in part]


def summed(values: Tensor) -> Tensor:
    """The sum over processes of a tensor on the CPU, of one shape in all of them."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total, group=_patient_group)
    return total


def wait_for_all() -> None:
    """Return once every process has come here."""
    if world_size() > 1:
        dist.barrier(group=_patient_group)


def from_first(function: Callable[[], T]) -> T:
    """What `function` returns in the first process, in every process; the others wait for it.

    Raises: what it raises there; in the others HarkErrors alike, and RunError for anything else.
    """
    if world_size() == 1:
        return function()
    global _works_alone
    answer: list[Any] = [None, None]
    if is_first():
        _works_alone = True
        try:
            answer[0] = function()
        except BaseException as error:
            told = error if isinstance(error, HarkError) else RunError(f"process 0 failed: {error}")
            dist.broadcast_object_list([None, told], group=_patient_group)
            raise
        finally:
            _works_alone = False
    dist.broadcast_object_list(answer, group=_patient_group)
    if answer[1] is not None:
        raise answer[1]
    result: T = answer[0]
    return result


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """The first process passes through the block alone, then all others: for what is kept on disk.

    An error of the first one ends the others where they wait.
    """
    if not is_first():
        from_first(lambda: None)
    try:
        yield
    except BaseException as error:
        if is_first() and world_size() > 1:
            _tell_of_error(error)
        raise
    if is_first():
        from_first(lambda: None)


@contextlib.contextmanager
def lost_processes_explained() -> Iterator[None]:
    """Say in one sentence that another process is gone, instead of torch's many.

    Raises: RunError for a collective that failed.
    """
    try:
        yield
    except RuntimeError as error:
        message = " ".join(str(error).split())
        if world_size() == 1 or not any(sign in message.lower() for sign in _SIGNS_OF_LOSS):
            raise
        raise RunError(
            f"process {rank()} lost touch with another process of this run ({message[:160]}); "
            "all of them end: give the same command again to continue from the last checkpoint"
        ) from error


def _tell_of_error(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with contextlib.suppress(type(error)):
        from_first(fail)


def _take_own_gpu(device: str) -> None:
    number, here = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if ":" in device:
        raise SettingsError(
            f"device '{device}' is one GPU for several processes; give 'cuda' or 'auto', and each "
            "takes its own"
        )
    if number >= here:
        raise SettingsError(
            f"torchrun started {os.environ['LOCAL_WORLD_SIZE']} processes on a machine with {here} "
            f"GPUs; give --nproc-per-node {here}, or --device cpu"
        )
    torch.cuda.set_device(number)


def _say_why_when_terminated() -> None:
    """On torchrun's SIGTERM print one sentence and end at once, even amid a collective.

    Python runs signal handlers between two of its own instructions only, which a process waiting
    for a dead one never reaches; so a thread waits for the byte that the C handler writes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait() -> None:
        while os.read(reading, 1) != bytes([signal.SIGTERM]):
            continue
        print(
            f"error: process {rank()} was told to end, by a person or because another process of "
            "this run did; give the same command again to continue from the last checkpoint",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="termination").start()
