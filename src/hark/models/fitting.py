"""What of a prompt and its responses fits the context.

InstructGPT (appendix C) leaves half of its context of 2048 tokens to prompts and half to responses.
Here both may use what the other leaves free: where they do not fit together, the prompt is cut to
its end, but never below half of the context; a response that is still too long is cut or its
record dropped, as the settings say. Every cut is counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hark.models.packing import PromptTree

LongResponses = Literal["drop", "cut"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CutCounts:
    """What did not fit the context."""

    prompts_truncated: int = 0
    """Prompts of which only the end was kept."""
    responses_cut: int = 0
    """Responses of which only the beginning was kept."""
    records_dropped: int = 0
    """Records left out because a response was too long."""

    def __add__(self, other: CutCounts) -> CutCounts:
        return CutCounts(
            prompts_truncated=self.prompts_truncated + other.prompts_truncated,
            responses_cut=self.responses_cut + other.responses_cut,
            records_dropped=self.records_dropped + other.records_dropped,
        )

    def results(self) -> dict[str, int]:
        return dataclasses.asdict(self)


def cut_to_context(
    prompt: Sequence[int],
    responses: Sequence[Sequence[int]],
    *,
    context: int,
    long_responses: LongResponses,
) -> tuple[PromptTree | None, CutCounts]:
    """Cut the prompt to its end, then the responses, until prompt and longest response fit."""
    longest = max(len(response) for response in responses)
    room = max(context - longest, context // 2, 1)
    kept_prompt = tuple(prompt[-room:])
    room = context - len(kept_prompt)
    too_long = sum(len(response) > room for response in responses)
    if too_long and long_responses == "drop":
        return None, CutCounts(records_dropped=1)
    tree = PromptTree(
        prompt=kept_prompt, responses=tuple(tuple(response[:room]) for response in responses)
    )
    return tree, CutCounts(
        prompts_truncated=int(len(kept_prompt) < len(prompt)), responses_cut=too_long
    )
