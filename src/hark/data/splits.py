"""Splits and caps by user, after InstructGPT (2203.02155, section 3.2 and appendix A).

The paper splits "based on user ID", so that no user's prompts are on two sides, and takes at most
200 prompts from a user. Departure: it does not say how users are drawn; here a seeded hash of the
user decides, so that a user stays on their side when records are added, removed or reordered.
A record without a user counts as a user of its own, known by its prompt.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from hark.data.records import Comparison, Demonstration, Dialogue, Prompt
from hark.errors import SettingsError

R = TypeVar("R", bound=Prompt | Demonstration | Comparison)

PROMPTS_PER_USER = 200

SplitBy = Literal["user", "prompt"]


@dataclass(frozen=True)
class Splits(Generic[R]):
    """Three lists without a user in common; each keeps the order of the input."""

    train: list[R]
    validation: list[R]
    test: list[R]


def split_by_user(
    records: Sequence[R],
    *,
    validation: float = 0.1,
    test: float = 0.0,
    seed: int = 0,
    by: SplitBy = "user",
) -> Splits[R]:
    """Part records into train, validation and test by user, or by prompt.

    `validation` and `test` are the shares of *users*; the shares of records follow only roughly.
    By prompt, they are the shares of prompts, and a user may be on several sides: for equal halves
    of comparisons (Bai et al. 2022) where few users wrote most of them.
    Raises: SettingsError unless both are at least 0 and together below 1.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise SettingsError(
            f"validation {validation} and test {test} are shares of users; give at least 0 each "
            "and less than 1 together"
        )
    splits: Splits[R] = Splits(train=[], validation=[], test=[])
    for record in records:
        key = user_key(record) if by == "user" else f"prompt\0{dialogue_key(record.prompt)}"
        place = uniform(seed, "split", key)
        if place < test:
            splits.test.append(record)
        elif place < test + validation:
            splits.validation.append(record)
        else:
            splits.train.append(record)
    return splits


def over_the_cap(
    records: Sequence[R], *, limit: int = PROMPTS_PER_USER, seed: int = 0
) -> list[int]:
    """The indices of the records to leave out so that no user has more than `limit`.

    Which stay is a seeded choice; records without a user always stay.
    """
    by_user: dict[str, list[tuple[float, int]]] = defaultdict(list)
    repetition: dict[tuple[str, str], int] = defaultdict(int)
    for index, record in enumerate(records):
        if record.user is None:
            continue
        text = dialogue_key(record.prompt)
        count = repetition[record.user, text]
        repetition[record.user, text] += 1
        draw = uniform(seed, "cap", f"{record.user}\0{count}\0{text}")
        by_user[record.user].append((draw, index))
    return sorted(index for drawn in by_user.values() for _, index in sorted(drawn)[limit:])


def user_key(record: Prompt | Demonstration | Comparison) -> str:
    """The user, or the prompt in place of one."""
    if record.user is not None:
        return f"user\0{record.user}"
    return f"prompt\0{dialogue_key(record.prompt)}"


def dialogue_key(dialogue: Dialogue) -> str:
    """One string per dialogue, different for different dialogues."""
    return "\0".join(f"{message.role}\0{message.content}" for message in dialogue)


def uniform(seed: int, purpose: str, key: str) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{key}".encode()).digest()
    # 53 bits, the precision of a float: with all 64 the quotient can round up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def labeler_groups(labelers: Sequence[str], groups: int) -> dict[str, int]:
    """Part labelers into groups of as nearly equal size as can be: name → group, from 0.

    A function of the set of names alone, so that the runs of a cross-validation agree.
    Raises: SettingsError if there are fewer labelers than groups.
    """
    names = sorted(set(labelers), key=lambda name: (uniform(0, "labeler group", name), name))
    if len(names) < groups:
        raise SettingsError(
            f"{len(names)} labelers cannot be parted into {groups} groups; ask for fewer"
        )
    return {name: place % groups for place, name in enumerate(names)}
