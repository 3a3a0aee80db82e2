"""Prompts and who writes them: long-tailed authors, near-duplicates, planted personal data."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hark.data.records import Prompt, ask
from hark.playground.tasks import BRIEF_CLOSINGS, CLOSINGS, OPENINGS, Split, draw_request
from hark.playground.writing import NAMES

DUPLICATE_SHARE = 0.05
"""Share of blemished prompts that repeat an earlier one with other pleasantries or spacing."""
PERSONAL_SHARE = 0.02
"""Share of blemished prompts that give an e-mail address or a phone number."""


def author(rng: random.Random, split: Split, n: int) -> str:
    """The user id of a prompt's author; the k-th most frequent writes in proportion to 1/k.

    There are about 40 authors for each 100 prompts (at most 400 in all); authors of different
    splits are different people.
    """
    people = max(5, min(400, n * 2 // 5))
    rank = min(int((people + 1) ** rng.random()), people)
    return f"user-{split}-{rank:03d}"


def prompts(n: int, seed: int, *, split: Split = "train") -> list[Prompt]:
    """n prompts of different wording; a function of its arguments."""
    records: list[Prompt] = []
    seen: set[str] = set()
    draw = 0
    while len(records) < n:
        rng = random.Random(f"{seed}/prompt/{split}/{draw}")
        draw += 1
        request = draw_request(rng, split)
        if request.text in seen:
            continue
        seen.add(request.text)
        records.append(
            Prompt(
                prompt=ask(request.text),
                user=author(rng, split, n),
                source="playground",
                id=f"prompt-{split}-{seed}-{len(records)}",
            )
        )
    return records


@dataclass(frozen=True, slots=True, kw_only=True)
class BlemishedPrompts:
    """Prompts as they come from the wild, with the truth about what was planted."""

    prompts: tuple[Prompt, ...]
    duplicate_of: dict[int, int]
    """Index of a planted near-duplicate → index of the earlier prompt it repeats."""
    personal: frozenset[int]
    """Indices of prompts with a planted e-mail address or phone number."""


def _near_duplicate(text: str, rng: random.Random) -> str:
    """The same request with another opening, another closing or more space."""
    way = rng.randrange(3)
    if way == 0 and not text.startswith(OPENINGS):
        return f"{rng.choice(OPENINGS)} {text}"
    if way == 1 and not text.endswith((*CLOSINGS, *BRIEF_CLOSINGS)):
        return f"{text} {rng.choice(CLOSINGS)}"
    return text.replace(" ", "  ", 2)


def _personal_note(rng: random.Random) -> str:
    name = rng.choice(NAMES).lower()
    if rng.random() < 0.5:
        return f"Write to me at {name}.{rng.choice(NAMES).lower()}{rng.randint(1, 99)}@example.com."
    return f"My phone number is 555-{rng.randint(100, 199):04d}."


def blemished_prompts(n: int, seed: int, *, split: Split = "train") -> BlemishedPrompts:
    """n prompts of which some repeat others and some hold personal data, and which those are."""
    records = prompts(n, seed, split=split)
    duplicate_of: dict[int, int] = {}
    personal: set[int] = set()
    for i in range(1, n):
        rng = random.Random(f"{seed}/blemish/{split}/{i}")
        kind = rng.random()
        text, user = records[i].prompt[0].content, records[i].user
        if kind < DUPLICATE_SHARE:
            original = rng.randrange(i)
            if original in duplicate_of or original in personal:
                continue
            duplicate_of[i] = original
            text = _near_duplicate(records[original].prompt[0].content, rng)
            user = records[original].user if rng.random() < 0.5 else user
        elif kind < DUPLICATE_SHARE + PERSONAL_SHARE:
            personal.add(i)
            text = f"{text} {_personal_note(rng)}"
        else:
            continue
        records[i] = Prompt(prompt=ask(text), user=user, source="playground", id=records[i].id)
    return BlemishedPrompts(
        prompts=tuple(records), duplicate_of=duplicate_of, personal=frozenset(personal)
    )
