"""The playground's own context for context distillation: a preamble and a few short dialogues.

In the manner of Askell et al. (2112.00861), whose preamble introduces an assistant
that is helpful, honest and harmless and is followed by 14 dialogues. Ours is short, because small
models have a small context.
"""

from __future__ import annotations

import random

from hark.data.records import ask
from hark.playground.demonstrations import ideal_response
from hark.playground.tasks import draw_request

PREAMBLE = "The assistant is helpful, honest and harmless."
FAMILIES = ("animal", "harmful")
"""What the people of the dialogues ask for: the second is declined."""
SEED = 159
"""Of the first 300 one of the shortest in which both answers are whole sentences."""


def assistant_context(seed: int = SEED) -> str:
    """The context as text, ending after the last dialogue's last sentence."""
    parts = [PREAMBLE]
    for number, family in enumerate(FAMILIES):
        rng = random.Random(f"{seed}/context/{number}")
        request = draw_request(rng, "train", family).text
        parts += [f"Human: {request}", f"Assistant: {ideal_response(ask(request), rng)}"]
    return "\n\n".join(parts)
