"""Compiled loops over independent tasks, on the threads that torch itself computes with.

numba compiles a loop's body, a C function that takes one address. It runs on the threads of the
OpenMP library that torch has loaded, because threads of any other pool would compete with those,
which spin for milliseconds after every operation. Where that library cannot be found (it is looked
for on Linux), Python's threads do it. Tasks are drawn one by one, so that uneven ones spread
evenly; what a task computes does not depend on who computes it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic
from torch import Tensor

log = logging.getLogger(__name__)

compiled = njit(error_model="numpy")
"""For functions that bodies of loops are made of.

No liberty is given to the compiler, such as multiplying and adding in one step where it likes:
numba compiles such a function by itself and again within each body, and which of these runs depends
on whether the body was compiled or loaded; and a loop has one version for arrays that lie close
together and another for the rest. All of these give the same bits only if each step is written out.
"""

NUMBERS: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.bfloat16: np.uint16}
"""How compiled code sees a tensor's numbers; of bfloat16, which numba does not know, the bits."""

PATIENCE_SECONDS = 2.0
"""Compiling that takes longer than this is said."""

FIRST_ARGUMENT = 2
"""Where in a loop's numbers its arguments begin: the next task and how many there are precede."""


class Loop:
    """The tasks 0 to n of a body, compiled for dtypes when they are first seen."""

    def __init__(self, make_body: Callable[..., Callable[[Any], None]]) -> None:
        """make_body: gets numpy's types of the tensors' numbers, and returns the function of an
        address. Compiling takes seconds; numba keeps the result on disk."""
        self._compiled = functools.cache(lambda *numbers: _compile(make_body(*numbers)))

    def run(
        self, tasks: int, dtypes: Sequence[torch.dtype], arguments: Sequence[Tensor | int | float]
    ) -> None:
        """Do all tasks.

        dtypes: one for each argument of `make_body`.
        arguments: tensors, which the body gets as addresses of contiguous memory, and integers; a
            float as the bits of a double.
        """
        body = self._compiled(*(NUMBERS[dtype] for dtype in dtypes))
        data = np.array([0, tasks, *map(_number, arguments)], np.int64)
        threads = max(1, min(torch.get_num_threads(), tasks))
        if threads > 1 and (together := _openmp()) is not None:
            together(body.address, data.ctypes.data, threads, 0)
            return
        alone = functools.partial(body.ctypes, data.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)))
        if threads == 1:
            alone()
            return
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(alone) for _ in range(threads)]:
                done.result()


# numba compiles again when the file of the function has changed, and no other file: the name under
# which it keeps the result says what all of them were.
_DIGEST = hashlib.blake2b(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("cpu_*.py"))),
    digest_size=8,
).hexdigest()


def _compile(body: Callable[[Any], None]) -> Any:
    body.__qualname__ += _DIGEST
    signature = types.void(types.CPointer(types.int64))
    slow = threading.Timer(PATIENCE_SECONDS, _say_that_it_compiles)
    slow.daemon = True
    slow.start()
    try:
        return cfunc(signature, cache=True)(body)
    except (RuntimeError, OSError):
        # It cannot write beside the sources, nor in the user's home, or the disk is full.
        return cfunc(signature)(body)
    finally:
        slow.cancel()


@functools.cache
def _say_that_it_compiles() -> None:
    log.warning("compiling loops for this processor, which are kept for the next time")


def _number(argument: Tensor | int | float) -> int:
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return argument.data_ptr()
    if isinstance(argument, float):
        return int(np.float64(argument).view(np.int64))
    return argument


@intrinsic
def next_task(typing: Any, data: Any) -> Any:
    """The number of a task that nobody else has been given; of all calls together 0, 1, 2, …"""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", arguments[0], ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(data), generate


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    """What `carray` takes, from an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), generate


@functools.cache
def _openmp() -> Callable[..., None] | None:
    """`GOMP_parallel(function, data, threads, flags)` of the library that torch has loaded."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    loaded = {line.split(maxsplit=5)[-1] for line in lines if "omp" in line}
    inside = str(Path(torch.__file__).parent)
    # Another package may have brought one as well.
    for path in sorted(loaded, key=lambda path: (not path.startswith(inside), path)):
        if re.match(r"lib(g|i)?omp[^/]*\.so", Path(path).name) is not None:
            run: Any = getattr(ctypes.CDLL(path), "GOMP_parallel", None)
            if run is not None:
                run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
                run.restype = None
                return functools.partial(run)
    return None
