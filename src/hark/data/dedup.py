"""Removal of duplicates: exact, by a long shared prefix, and near.

InstructGPT "heuristically deduplicate[s] prompts by checking for prompts that share a long common
prefix" (2203.02155, section 3.2). Departures:

1. The paper does not say how long; here prompts are duplicates if their first `prefix_characters`
   are alike. System turns do not count: all prompts of a system may begin with the same one.
2. Near-duplicates are removed besides: prompts whose character shingles overlap by at least
   `threshold` (Jaccard), found by MinHash and confirmed by exact counting. Prompts whose numbers
   differ are never near-duplicates, as sums and dates differ by little else.

Prefixes and nearness are a matter of distinct prompts: several records of one prompt (its pairs,
its demonstrations) stay or go together. Of duplicates, the first in the list is kept.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from datasketch import MinHash, MinHashLSH

from hark.data.records import Comparison, Demonstration, Dialogue, Prompt

R = TypeVar("R", bound=Prompt | Demonstration | Comparison)
DuplicateReason = Literal["exact duplicate", "shared prefix", "near duplicate"]

PREFIX_CHARACTERS = 100
THRESHOLD = 0.8
SHINGLE_CHARACTERS = 5
PERMUTATIONS = 128


@dataclass(frozen=True)
class Duplicate:
    """A record that was removed, and the one that was kept in its place."""

    index: int
    """Its place in the input."""
    partner: int
    """The place of the kept record."""
    reason: DuplicateReason
    explanation: str


@dataclass(frozen=True)
class Deduplicated(Generic[R]):
    """What is left, in the order of the input, and what was removed."""

    kept: list[R]
    removed: list[Duplicate]


def remove_duplicates(
    records: Sequence[R],
    *,
    prefix_characters: int | None = PREFIX_CHARACTERS,
    threshold: float | None = THRESHOLD,
    shingle_characters: int = SHINGLE_CHARACTERS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Deduplicated[R]:
    """Remove exact duplicates, then shared prefixes, then near-duplicates; None skips a step.

    A record is an exact duplicate if all that was written in it (prompt and responses) is the same
    but for case and white space.
    """
    removed = _exact(records)
    gone = {duplicate.index for duplicate in removed}
    by_prompt: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        if index not in gone:
            by_prompt.setdefault(comparable(record.prompt), []).append(index)
    prompts = list(by_prompt)
    found: dict[int, tuple[int, DuplicateReason, str]] = {}
    if prefix_characters is not None:
        why = f"the first {prefix_characters} characters of the prompt are alike"
        for place, partner in shared_prefixes(prompts, prefix_characters).items():
            found[place] = (partner, "shared prefix", why)
    if threshold is not None:
        left = [place for place in range(len(prompts)) if place not in found]
        near = near_duplicates(
            [prompts[place] for place in left],
            threshold=threshold,
            shingle_characters=shingle_characters,
            permutations=permutations,
            seed=seed,
        )
        for place, (partner, overlap) in near.items():
            why = f"{overlap:.0%} of the prompts' shingles are shared"
            found[left[place]] = (left[partner], "near duplicate", why)
    for place, (partner, reason, why) in found.items():
        kept = by_prompt[prompts[partner]][0]
        removed += [Duplicate(index, kept, reason, why) for index in by_prompt[prompts[place]]]
    gone = {duplicate.index for duplicate in removed}
    return Deduplicated(
        kept=[record for index, record in enumerate(records) if index not in gone],
        removed=sorted(removed, key=lambda duplicate: duplicate.index),
    )


def comparable(prompt: Dialogue) -> str:
    """The turns of a prompt, without system turns, case and superfluous white space."""
    turns = [message for message in prompt if message.role != "system"]
    return "\n".join(_plain(message.content) for message in turns)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _exact(records: Sequence[R]) -> list[Duplicate]:
    first: dict[Hashable, int] = {}
    removed: list[Duplicate] = []
    for index, record in enumerate(records):
        partner = first.setdefault(_content(record), index)
        if partner != index:
            why = "the same text was seen before"
            removed.append(Duplicate(index, partner, "exact duplicate", why))
    return removed


def _content(record: Prompt | Demonstration | Comparison) -> Hashable:
    """What was written and judged: a second labeler's judgement is no duplicate."""
    prompt = tuple((turn.role, _plain(turn.content)) for turn in record.prompt)
    if isinstance(record, Demonstration):
        return prompt, _plain(record.response)
    if isinstance(record, Comparison):
        responses = tuple(_plain(response) for response in record.responses)
        return prompt, responses, record.ranks, record.probability, record.labeler
    return prompt


def shared_prefixes(texts: Sequence[str], characters: int) -> dict[int, int]:
    """From each text to the earlier one that begins with the same `characters`."""
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for index, text in enumerate(texts):
        if len(text) >= characters:
            partner = first.setdefault(text[:characters], index)
            if partner != index:
                found[index] = partner
    return found


def near_duplicates(
    texts: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    shingle_characters: int = SHINGLE_CHARACTERS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> dict[int, tuple[int, float]]:
    """From each near-duplicate to the earlier text that is kept, and their Jaccard overlap."""
    # MinHash only estimates: candidates are gathered below the threshold, and one too many (false
    # positives weigh 0.1, false negatives 0.9) costs a comparison while one too few is not found.
    lookup = MinHashLSH(
        threshold=max(0.05, threshold - 0.1), num_perm=permutations, weights=(0.1, 0.9)
    )
    blank = MinHash(num_perm=permutations, seed=seed, hashfunc=zlib.crc32)
    found: dict[int, tuple[int, float]] = {}
    for index, text in enumerate(texts):
        pieces = shingles(text, shingle_characters)
        sketch = blank.copy()
        sketch.update_batch([piece.encode("utf-8", "surrogatepass") for piece in pieces])
        best: tuple[float, int] | None = None
        for candidate in lookup.query(sketch):
            other = texts[candidate]
            overlap = jaccard(pieces, shingles(other, shingle_characters))
            if overlap >= threshold and _numbers(text) == _numbers(other):
                # The largest overlap, and of equals the earliest, whatever the lookup's order.
                best = max(best or (overlap, -candidate), (overlap, -candidate))
        if best is not None:
            found[index] = (-best[1], best[0])
        else:
            lookup.insert(index, sketch)
    return found


def shingles(text: str, characters: int) -> set[str]:
    """All pieces of so many characters; the text itself if it is shorter."""
    return {text[i : i + characters] for i in range(max(1, len(text) - characters + 1))}


def jaccard(a: set[str], b: set[str]) -> float:
    """The share of the elements of both that is in each: |a ∩ b| / |a ∪ b|."""
    return len(a & b) / len(a | b)


def _numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d+", text))
