"""A preference model that chooses the best of n responses for the server of models."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from hark.data.records import Dialogue
from hark.errors import HarkError
from hark.models.best_of_n import Scorer, keep_best
from hark.models.language_model import choose_device
from hark.models.scalar_head import ModelScorer, load_scalar_model
from hark.models.tokenizer import load_tokenizer
from hark.runs.run import resolve_model
from hark.serving.refusal import Refusal


@dataclass(frozen=True)
class _Drawn:
    text: str


class Ranker:
    """Scores in a thread of its own, one request after another."""

    def __init__(self, score: Scorer) -> None:
        self._score = score
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hark-ranker")

    @classmethod
    def load(cls, path: str, *, device: str = "auto", dtype: str = "float32") -> Self:
        """Read the directory or run of a preference model. Raises: HarkError if it is none."""
        source = resolve_model(path)
        model = load_scalar_model(source, device=str(choose_device(device)), dtype=dtype)
        return cls(ModelScorer(model, load_tokenizer(source), long_responses="cut"))

    async def choose(self, prompt: Dialogue, texts: Sequence[str]) -> int:
        """The place of the response that scores highest; of equals, the one drawn first.

        Raises: Refusal if the model cannot score them.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._choose, prompt, texts
        )

    def _choose(self, prompt: Dialogue, texts: Sequence[str]) -> int:
        drawn = [_Drawn(text) for text in texts]
        try:
            [best] = keep_best([prompt], drawn, self._score, n=len(texts))
        except HarkError as error:
            raise Refusal(
                500, f"the preference model failed: {error}", code="model_failed"
            ) from None
        return best.choice

    def stop(self) -> None:
        """Score nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
