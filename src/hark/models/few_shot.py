"""Few-shot prompts: a base model shown examples of an assistant before it is asked.

InstructGPT (Ouyang et al. 2022, section 3.5) compares with GPT-3 given a few-shot prefix that puts
it into an instruction-following mode; the sampled text ends where the model begins to write the
next human turn.

Departures:
1. The examples are demonstrations of the data at hand, as earlier turns of one Human/Assistant
   conversation (the transcript form of Bai et al. 2022), not a hand-made prefix.
2. Where they do not fit the context, the earliest examples are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from hark.data.records import Demonstration, Dialogue, answered
from hark.errors import ModelError
from hark.models.sampling import SamplingSettings

_SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}

FEW_SHOT_STOP = tuple(f"\n{speaker}:" for speaker in _SPEAKERS.values())
"""A base model that has answered goes on with somebody's next turn."""


def few_shot_settings(settings: SamplingSettings) -> SamplingSettings:
    """The same settings with a stop at the next speaker's turn."""
    stop = tuple(dict.fromkeys((*settings.stop, *FEW_SHOT_STOP)))
    return settings.model_copy(update={"stop": stop})


def few_shot_text(
    demonstrations: Sequence[Demonstration], prompt: Dialogue, *, instruction: str = ""
) -> str:
    """One transcript: instruction, examples, the request, and "Assistant:" to be continued.

    Plain text, without a chat template's or an end token, which a base model has not learnt.
    """
    turns = [
        message
        for example in demonstrations
        for message in answered(example.prompt, example.response)
    ]
    paragraphs = [instruction.strip()] if instruction.strip() else []
    paragraphs += [
        f"{_SPEAKERS[message.role]}: {message.content.strip()}" for message in (*turns, *prompt)
    ]
    return "\n\n".join([*paragraphs, f"{_SPEAKERS['assistant']}:"])


def few_shot_prompt(
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[Demonstration],
    prompt: Dialogue,
    *,
    max_prompt_tokens: int,
    instruction: str = "",
) -> list[int]:
    """Tokens of `few_shot_text` with as many of the last demonstrations as fit.

    Args:
        max_prompt_tokens: the model's context less the tokens of the response.

    Raises:
        ModelError: the request does not fit even without demonstrations.
    """
    for first in range(len(demonstrations) + 1):
        text = few_shot_text(demonstrations[first:], prompt, instruction=instruction)
        tokens = list(tokenizer(text, verbose=False)["input_ids"])
        if len(tokens) <= max_prompt_tokens:
            return tokens
    raise ModelError(
        f"a request takes {len(tokens)} tokens without any example, but {max_prompt_tokens} are "
        "left for the prompt; shorten it or lower max_response_tokens"
    )
