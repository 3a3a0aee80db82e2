"""What a teacher predicted, kept on the disk: tokens, the k likeliest classes of each, the rest.

    "HARKTCH1" | length | description in JSON | block | block | …
    block:   length | CRC-32 | examples | two lengths of each example | the examples end to end
    example: token ids of prompt and response; [M, k] ids; [M, k] float32; [M] float32

All numbers are little-endian, lengths unsigned of 32 bits; ids have 2 bytes where the vocabulary
allows. Log-probabilities are kept as they were computed: what is read back is what was written, to
the bit. A file is written block by block; a block that an interruption has cut short is dropped
when the file is opened again, and writing goes on after the last whole one.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from hark.errors import RunError
from hark.models.packing import PromptTree
from hark.runs.files import explain_disk_errors
from hark.training.top_classes import TopClasses

MAGIC = b"HARKTCH1"
_LENGTHS = struct.Struct("<II")
_COUNT = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """A sequence as the student reads it, and what the teacher predicted of its response."""

    tree: PromptTree
    """Without the context; one response of M tokens."""
    classes: TopClasses
    """Of its M tokens."""


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    prompt: int
    response: int


@dataclass(kw_only=True)
class TeacherFile:
    """An open file: examples by number, and room for more blocks at its end."""

    path: Path
    classes: int
    """k, without the rest."""
    id_type: np.dtype[Any]
    places: list[_Place]
    end: int
    """Where the next block begins."""
    predicted_tokens: int = 0
    """Response tokens of all examples."""
    _bytes: npt.NDArray[np.uint8] | None = None

    @classmethod
    def open(cls, path: Path, *, classes: int, vocabulary: int) -> Self:
        """The file as far as it is whole; a new one where there is none.

        Raises: RunError if it holds something else, or the disk refuses.
        """
        id_type = np.dtype("<u2" if vocabulary <= 2**16 else "<u4")
        description = {"classes": classes, "vocabulary": vocabulary, "ids": id_type.str}
        written = json.dumps(description, sort_keys=True).encode()
        header = MAGIC + _COUNT.pack(len(written)) + written
        with explain_disk_errors(path):
            if not path.exists() or path.stat().st_size < len(header):
                path.write_bytes(header)
            with path.open("rb") as file:
                if file.read(len(header)) != header:
                    raise RunError(
                        f"'{path}' is not the teacher's file of this run (k {classes}, vocabulary "
                        f"{vocabulary}); remove it, then give the same command again"
                    )
        opened = cls(path=path, classes=classes, id_type=id_type, places=[], end=len(header))
        opened._read_blocks()
        return opened

    def __len__(self) -> int:
        return len(self.places)

    def append(self, examples: Sequence[Taught]) -> None:
        """Write one block and flush it to the disk. Raises: RunError if the disk refuses."""
        lengths = [(len(e.tree.prompt), len(e.tree.responses[0])) for e in examples]
        payload = b"".join(
            (
                _COUNT.pack(len(examples)),
                np.asarray(lengths, dtype="<u4").tobytes(),
                *(part for example in examples for part in self._parts(example)),
            )
        )
        with explain_disk_errors(self.path), self.path.open("r+b") as file:
            file.seek(self.end)
            file.truncate()
            file.write(_LENGTHS.pack(len(payload), zlib.crc32(payload)))
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        self._add_places(self.end + _LENGTHS.size, lengths)
        self.end += _LENGTHS.size + len(payload)
        self._bytes = None

    def __getitem__(self, number: int) -> Taught:
        place, k = self.places[number], self.classes
        if self._bytes is None:
            self._bytes = np.memmap(self.path, dtype=np.uint8, mode="r")
        offset = place.offset

        def read(count: int, kind: str | np.dtype[Any]) -> npt.NDArray[Any]:
            nonlocal offset
            assert self._bytes is not None
            start, offset = offset, offset + count * np.dtype(kind).itemsize
            return np.frombuffer(bytes(self._bytes[start:offset]), dtype=kind)

        tokens = read(place.prompt + place.response, self.id_type).tolist()
        ids = read(place.response * k, self.id_type).astype(np.int64).reshape(-1, k)
        logprobs = read(place.response * k, "<f4").reshape(-1, k)
        rest = read(place.response, "<f4")
        return Taught(
            tree=PromptTree(tuple(tokens[: place.prompt]), (tuple(tokens[place.prompt :]),)),
            classes=TopClasses(
                ids=torch.from_numpy(ids),
                logprobs=torch.from_numpy(logprobs.copy()),
                rest=torch.from_numpy(rest.copy()),
            ),
        )

    def _parts(self, example: Taught) -> tuple[bytes, ...]:
        tokens = [*example.tree.prompt, *example.tree.responses[0]]
        return (
            np.asarray(tokens, dtype=self.id_type).tobytes(),
            example.classes.ids.numpy().astype(self.id_type).tobytes(),
            example.classes.logprobs.numpy().astype("<f4").tobytes(),
            example.classes.rest.numpy().astype("<f4").tobytes(),
        )

    def _read_blocks(self) -> None:
        with self.path.open("rb") as file:
            while True:
                file.seek(self.end)
                start = file.read(_LENGTHS.size)
                if len(start) < _LENGTHS.size:
                    return
                length, checksum = _LENGTHS.unpack(start)
                payload = file.read(length)
                if len(payload) < length or zlib.crc32(payload) != checksum:
                    return
                (count,) = _COUNT.unpack_from(payload)
                table = np.frombuffer(payload, dtype="<u4", count=2 * count, offset=_COUNT.size)
                lengths = [(int(a), int(b)) for a, b in table.reshape(-1, 2)]
                self._add_places(self.end + _LENGTHS.size, lengths)
                self.end += _LENGTHS.size + length

    def _add_places(self, payload: int, lengths: Sequence[tuple[int, int]]) -> None:
        offset = payload + _COUNT.size + 8 * len(lengths)
        for prompt, response in lengths:
            self.places.append(_Place(offset, prompt, response))
            self.predicted_tokens += response
            width = self.id_type.itemsize
            offset += width * (prompt + response) + response * (self.classes * (width + 4) + 4)
