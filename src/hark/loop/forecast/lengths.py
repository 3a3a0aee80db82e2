"""How many examples a stage has and how long they are: from its files, or as a person says.

A file's records are all counted; tokens are counted on a sample, by the tokenizer of the stage's
model where that is on this machine, else as characters ÷ 4. What neither a file nor a person says
is assumed, and the forecast says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from hark.data.files import HUB_PREFIX
from hark.data.formats import read_comparisons, read_demonstrations, read_prompts, read_texts
from hark.data.mixing import parse_weighted_path
from hark.data.records import Comparison, Demonstration, Dialogue, Prompt, Text
from hark.errors import SettingsError, did_you_mean
from hark.loop.forecast.hardware import Basis
from hark.loop.forecast.work import Lengths
from hark.loop.references import references_in
from hark.models.flops import Sequence as TokenCounts
from hark.models.tokenizer import encode_prompt, encode_response, load_tokenizer

SAMPLE = 512
"""Records whose tokens are counted."""
CHARACTERS_PER_TOKEN = 4.0
ASSUMED_EXAMPLES = {"sft": 12_725, "preference": 33_207}
"""InstructGPT's numbers of training prompts (2203.02155, table 6)."""
ASSUMED_PROMPTS = 31_144
ASSUMED_TEXTS = 1_000_000
ASSUMED_PROMPT_TOKENS, ASSUMED_RESPONSE_TOKENS, ASSUMED_RESPONSES = 200, 150, 2

_READERS: dict[str, Callable[..., Sequence[Any]]] = {
    "pretrain": read_texts, "sft": read_demonstrations, "preference": read_comparisons,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Said:
    """Numbers that a person gave, by stage; the key "" is for all stages."""

    examples: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: Mapping[str, float] = field(default_factory=dict)
    response_tokens: Mapping[str, float] = field(default_factory=dict)
    responses: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def of(numbers: Mapping[str, float], stage: str) -> int | None:
        found = numbers.get(stage, numbers.get(""))
        return None if found is None else round(found)


def by_stage(option: str, given: Sequence[str], stages: Sequence[str]) -> dict[str, str]:
    """`N` or `STAGE=N`, several times, as a mapping; "" stands for all stages.

    Raises: SettingsError for a stage that the recipe does not have.
    """
    found: dict[str, str] = {}
    for text in given:
        stage, equals, value = text.rpartition("=")
        if equals and stage not in stages:
            raise SettingsError(
                f"{option} '{text}': the recipe has no stage '{stage}'"
                f"{did_you_mean(stage, stages)}; it has: {', '.join(stages)}"
            )
        found[stage] = value
    return found


def numbers_by_stage(option: str, given: Sequence[str], stages: Sequence[str]) -> dict[str, float]:
    """The same for counts, of at least 1. Raises: SettingsError for anything else."""
    numbers = {}
    for stage, value in by_stage(option, given, stages).items():
        try:
            numbers[stage] = float(value)
        except ValueError:
            numbers[stage] = 0.0
        if not 1 <= numbers[stage] < float("inf"):
            raise SettingsError(f"{option} '{value}' is not a number of at least 1")
    return numbers


def lengths_of_stage(
    name: str,
    kind: str,
    paths: Sequence[str],
    said: Said,
    *,
    model: Path | None,
    responses: int,
    limit: int | None = None,
) -> Lengths:
    """The examples of a stage.

    paths: its files, of which all must be on this machine to count.
    model: the directory of its model, if there is one, whose tokenizer counts.
    responses, limit: to each prompt, for stages that draw them themselves, and their most tokens.
    """
    lengths = _from_files(kind, paths, model, responses) or _assumed(kind, responses)
    if kind != "preference":
        if name in said.responses:
            raise SettingsError(
                f"--responses '{name}=…' would be ignored: it is for stages of comparisons, and "
                f"'{name}' is {kind}"
            )
        said = replace(said, responses={})
    lengths = _as_said(lengths, name, said)
    if limit is not None:
        clipped = ((prompt, tuple(min(each, limit) for each in drawn))
                   for prompt, drawn in lengths.sample)  # fmt: skip
        lengths = replace(lengths, sample=tuple(clipped))
    if kind not in _READERS and Said.of(said.response_tokens, name) is None:
        note = f"{lengths.note}; responses assumed: give --response-tokens"
        return replace(lengths, basis=Basis.EXTRAPOLATED, note=note)
    return lengths


def _from_files(
    kind: str, paths: Sequence[str], model: Path | None, responses: int
) -> Lengths | None:
    plain = [str(parse_weighted_path(path).path) for path in paths]
    away = any(path.startswith(HUB_PREFIX) or any(references_in(path)) for path in plain)
    if not plain or away:
        return None
    records = [record for path in plain for record in _READERS.get(kind, read_prompts)(path)]
    tokenizer = load_tokenizer(str(model)) if model is not None else None
    spread = records[:: max(1, len(records) // SAMPLE)][:SAMPLE]
    sample = tuple(_tokens(record, tokenizer, responses) for record in spread)
    how = "by the tokenizer" if tokenizer else "as characters ÷ 4"
    return Lengths(
        examples=len(records), sample=sample, note=f"from files, tokens counted {how}",
        basis=Basis.MEASURED if tokenizer else Basis.EXTRAPOLATED,
    )  # fmt: skip


def _assumed(kind: str, responses: int) -> Lengths:
    count = responses
    if kind == "preference":
        count = ASSUMED_RESPONSES
    examples = ASSUMED_EXAMPLES.get(kind, ASSUMED_TEXTS if kind == "pretrain" else ASSUMED_PROMPTS)
    sequence = (ASSUMED_PROMPT_TOKENS, (ASSUMED_RESPONSE_TOKENS,) * count)
    if kind == "pretrain":
        sequence = (1, (ASSUMED_PROMPT_TOKENS + ASSUMED_RESPONSE_TOKENS - 1,))
    return Lengths(
        examples=examples, sample=(sequence,), basis=Basis.EXTRAPOLATED,
        note="assumed: give --examples, --prompt-tokens, --response-tokens",
    )  # fmt: skip


def _as_said(lengths: Lengths, stage: str, said: Said) -> Lengths:
    """What a person says wins; what they leave out stays."""
    wishes = {
        option: Said.of(numbers, stage)
        for option, numbers in (
            ("examples", said.examples), ("prompt tokens", said.prompt_tokens),
            ("response tokens", said.response_tokens), ("responses", said.responses),
        )
    }  # fmt: skip
    if all(wish is None for wish in wishes.values()):
        return lengths
    prompt, drawn, count = wishes["prompt tokens"], wishes["response tokens"], wishes["responses"]

    def changed(sequence: TokenCounts) -> TokenCounts:
        own, responses = sequence
        if drawn is not None:
            responses = (drawn,) * len(responses)
        if count is not None:
            responses = tuple(responses[place % len(responses)] for place in range(count))
        return (prompt or own, responses)

    complete = all(wishes[name] is not None for name in ("examples", "response tokens"))
    given = ", ".join(f"{option} {value:,}" for option, value in wishes.items() if value)
    return Lengths(
        examples=wishes["examples"] or lengths.examples,
        sample=tuple(changed(each) for each in lengths.sample),
        basis=Basis.MEASURED if complete and prompt is not None else lengths.basis,
        note=f"as given: {given}" + ("" if complete and prompt else f"; the rest {lengths.note}"),
    )


def _tokens(
    record: object, tokenizer: PreTrainedTokenizerBase | None, responses: int
) -> TokenCounts:
    """Prompt and responses of a record, in tokens."""
    if isinstance(record, Text):
        return (1, (max(1, _of_text(record.text, tokenizer)),))
    assert isinstance(record, Prompt | Demonstration | Comparison)
    if isinstance(record, Prompt):
        texts: tuple[str, ...] = ()
    elif isinstance(record, Demonstration):
        texts = (record.response,)
    else:
        texts = record.responses
    prompt = record.prompt
    if tokenizer is None:
        asked = sum(len(message.content) for message in prompt) / CHARACTERS_PER_TOKEN
        counts = tuple(round(len(text) / CHARACTERS_PER_TOKEN) + 1 for text in texts)
        return (max(1, round(asked)), counts or (ASSUMED_RESPONSE_TOKENS,) * responses)
    counts = tuple(_of_response(tokenizer, prompt, text) for text in texts)
    asked_tokens = len(encode_prompt(tokenizer, prompt))
    return (asked_tokens, counts or (ASSUMED_RESPONSE_TOKENS,) * responses)


def _of_response(tokenizer: PreTrainedTokenizerBase, prompt: Dialogue, text: str) -> int:
    return len(encode_response(tokenizer, prompt, text, allow_empty=True))


def _of_text(text: str, tokenizer: PreTrainedTokenizerBase | None) -> int:
    if tokenizer is None:
        return round(len(text) / CHARACTERS_PER_TOKEN)
    return len(tokenizer(text, verbose=False)["input_ids"])
