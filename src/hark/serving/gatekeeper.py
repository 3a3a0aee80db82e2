"""Keeps strange prompts from the models that are served, and counts what it does."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from hark.data.records import Dialogue
from hark.errors import HarkError
from hark.models.language_model import choose_device
from hark.models.outlier_detector import OutlierGuard
from hark.serving.refusal import Refusal


class Gatekeeper:
    """Looks at prompts in a thread of its own, one after another."""

    def __init__(self, guard: OutlierGuard, *, text: str) -> None:
        """text: what a refused prompt is answered."""
        self.guard, self.text = guard, text
        self.seen = self.refused = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hark-gatekeeper")

    @classmethod
    def load(cls, run: Path, *, text: str, device: str = "auto") -> Self:
        """Read a run of `hark outliers`. Raises: HarkError if it is none."""
        return cls(OutlierGuard.load(run, device=str(choose_device(device))), text=text)

    async def refuses(self, prompt: Dialogue) -> bool:
        """Whether a prompt is not to be answered. Raises: Refusal if it cannot be read."""
        try:
            refused = await asyncio.get_running_loop().run_in_executor(
                self._thread, self.guard.refused, [prompt]
            )
        except HarkError as error:
            raise Refusal(400, str(error), param="messages") from None
        self.seen += 1
        self.refused += refused[0]
        return refused[0]

    def state(self) -> dict[str, Any]:
        """What it has done, and how often ordinary prompts were refused where it was fitted."""
        rate = self.guard.detector.false_refusal_rate
        return {"seen": self.seen, "refused": self.refused, "false_refusal_rate": rate}

    def describe(self) -> str:
        """One line for who starts the server."""
        detector = self.guard.detector
        return (
            f"prompts beyond {detector.threshold:.4g} by {detector.method.replace('_', ' ')} at "
            f"layer {detector.layer} are refused: {100 * detector.false_refusal_rate:.1f} % of the "
            "ordinary ones, where it was fitted"
        )

    def stop(self) -> None:
        """Look at nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
