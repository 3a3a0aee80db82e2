"""A program that takes part in a benchmark, in a process and an environment of its own.

It reads its settings from a file, gets ready, and then does the work once for every line of JSON it
reads, answering with one line: what `peers/serving.py` does at the other end. So two contenders
take turns on one machine within one run, and neither pays its start-up again.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.environments import ROOT


class ContenderError(RuntimeError):
    """A contender that ended or failed; its log says why."""


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One piece of work, done once; the contender fills it."""

    seconds: float
    amount: float
    """How much was done, in the workload's unit: tokens, pairs, episodes, questions."""
    losses: tuple[float, ...] = ()
    """The loss of each step, or whatever both contenders should find alike."""
    sequences: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """Tokens of each prompt and of each of its responses, as far as the contender decided them."""
    batches: tuple[tuple[int, ...], ...] = ()
    """Which examples each step took, where the contender chose them."""
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.amount / self.seconds

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        return cls(
            seconds=answer["seconds"],
            amount=answer["amount"],
            losses=tuple(answer.get("losses", ())),
            sequences=tuple(
                (prompt, tuple(responses)) for prompt, responses in answer.get("sequences", ())
            ),
            batches=tuple(tuple(batch) for batch in answer.get("batches", ())),
            notes=answer.get("notes", {}),
        )


class Contender:
    """A running contender; `with` ends it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        settings: Mapping[str, Any],
        *,
        threads: int,
        huge_pages: bool,
    ) -> None:
        """Start it; it gets ready while others start.

        settings: what it reads, `work` among them: the directory for its log and all it writes.
        """
        work = Path(settings["work"])
        self.name, self.log = name, work / f"{name}.log"
        file = work / f"{name}.json"
        file.write_text(json.dumps({**settings, "threads": threads}))
        self._output = self.log.open("w")
        self._process = subprocess.Popen(
            [*command, file],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            text=True,
            env=os.environ
            | {
                "OMP_NUM_THREADS": str(threads),
                "THP_MEM_ALLOC_ENABLE": str(int(huge_pages)),
                "TOKENIZERS_PARALLELISM": "false",
                "HF_HUB_OFFLINE": "1",
                "PYTHONUNBUFFERED": "1",
            },
        )
        self._ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._output.close()

    def ready(self) -> None:
        """Wait until it is ready. Raises: ContenderError if it fails to start."""
        if not self._ready:
            self._answer()
            self._ready = True

    def repeat(self, **request: Any) -> Repetition:
        """Have the work done once. Raises: ContenderError."""
        self.ready()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Repetition.of(self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            raise ContenderError(f"{self.name} failed ({answer['error']}); see {self.log}")
        return answer
