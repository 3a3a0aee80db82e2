"""The prompt hygiene of InstructGPT (2203.02155, section 3.2 and appendix A).

In order: duplicates are removed (exact, by a long shared prefix, near), prompts that are too long
are removed, each user keeps at most 200, users are parted into train, validation and test, and
personal data is filtered from train. Departures:

1. What the paper leaves open (how long a prefix, which personal data, how users are drawn) is
   decided in `dedup`, `pii` and `splits`; near-duplicates are our addition.
2. The paper drops prompts above 1k tokens; here the limit is in characters, before any tokenizer.
3. Everything that is removed or masked is listed with its reason, for a person to review.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from pydantic import Field

from hark.data.dedup import (
    PERMUTATIONS,
    PREFIX_CHARACTERS,
    SHINGLE_CHARACTERS,
    THRESHOLD,
    remove_duplicates,
)
from hark.data.pii import Finding, findings, masked
from hark.data.records import Comparison, Demonstration, Prompt
from hark.data.splits import PROMPTS_PER_USER, SplitBy, Splits, over_the_cap, split_by_user
from hark.settings import Settings

R = TypeVar("R", bound=Prompt | Demonstration | Comparison)

SPLIT_NAMES: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")


class PrepareSettings(Settings):
    """What is removed, and how the rest is parted."""

    seed: int = 0
    """Decides which users are held out and which prompts stay under the cap."""
    prefix_characters: int | None = Field(default=PREFIX_CHARACTERS, ge=1)
    """Prompts that begin with so many like characters are duplicates; null keeps them."""
    near_duplicate_threshold: float | None = Field(default=THRESHOLD, gt=0, le=1)
    """Prompts that share this part of their shingles (Jaccard) are duplicates; null keeps them."""
    shingle_characters: int = Field(default=SHINGLE_CHARACTERS, ge=1)
    """Length of a shingle."""
    permutations: int = Field(default=PERMUTATIONS, ge=16)
    """MinHash permutations; more find more of the near-duplicates and take longer."""
    maximum_prompt_characters: int | None = Field(default=None, ge=1)
    """Longer prompts are removed; null keeps all."""
    prompts_per_user: int | None = Field(default=PROMPTS_PER_USER, ge=1)
    """At most so many records of one user; null keeps all."""
    split_by: SplitBy = "user"
    """What stays on one side: all records of a user (InstructGPT), or of a prompt only (for halves
    of like size where few users wrote most)."""
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the users (or prompts) held out for validation."""
    test_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the users (or prompts) held out for the final test."""
    personal_data: Literal["drop", "mask", "keep"] = "drop"
    """Whether records with personal data are dropped, masked, or kept as they are."""
    personal_data_splits: Literal["train", "all"] = "train"
    """Where personal data is looked for: in train, as in the paper, or in all splits."""


@dataclass(frozen=True)
class Removed(Generic[R]):
    """A record that was left out, and why."""

    index: int
    """Its place in the input, from 0."""
    record: R
    reason: str
    """A few fixed words, such as "near duplicate"; counts go by it."""
    explanation: str
    partner: int | None = None
    """The place of the record that was kept instead of a duplicate."""


@dataclass(frozen=True)
class Prepared(Generic[R]):
    """The splits, and an account of everything that is not in them as it was."""

    splits: Splits[R]
    removed: list[Removed[R]]
    """In the order of the input."""
    findings: list[Finding]
    """Personal data, of dropped and masked records alike."""
    masked: int
    """How many records were masked."""
    total: int
    """Records given."""
    settings: PrepareSettings

    @property
    def counts(self) -> dict[str, int]:
        """How many records were removed for each reason."""
        return dict(Counter(removed.reason for removed in self.removed).most_common())


def prepare(records: Sequence[R], settings: PrepareSettings) -> Prepared[R]:
    """Clean and part prompts, demonstrations or comparisons."""
    left = list(enumerate(records))
    removed: list[Removed[R]] = []
    for step in (_duplicates, _too_long, _over_the_cap):
        gone = step(left, settings)
        removed += gone
        places = {one.index for one in gone}
        left = [(index, record) for index, record in left if index not in places]

    splits = split_by_user(
        [record for _, record in left],
        validation=settings.validation_share,
        test=settings.test_share,
        seed=settings.seed,
        by=settings.split_by,
    )
    account = _PersonalData(settings, removed)
    # Records may be equal, so that only identity leads back to their places in the input.
    places_of = {id(record): index for index, record in left}
    filtered = {
        name: account.filter(getattr(splits, name), places_of)
        if name == "train" or settings.personal_data_splits == "all"
        else getattr(splits, name)
        for name in SPLIT_NAMES
    }
    return Prepared(
        splits=Splits(**filtered),
        removed=sorted(removed, key=lambda one: one.index),
        findings=sorted(account.findings, key=lambda finding: finding.index),
        masked=account.masked,
        total=len(records),
        settings=settings,
    )


def _duplicates(left: list[tuple[int, R]], settings: PrepareSettings) -> list[Removed[R]]:
    found = remove_duplicates(
        [record for _, record in left],
        prefix_characters=settings.prefix_characters,
        threshold=settings.near_duplicate_threshold,
        shingle_characters=settings.shingle_characters,
        permutations=settings.permutations,
        seed=settings.seed,
    )
    return [
        Removed(
            index=left[duplicate.index][0],
            record=left[duplicate.index][1],
            reason=duplicate.reason,
            explanation=duplicate.explanation,
            partner=left[duplicate.partner][0],
        )
        for duplicate in found.removed
    ]


def _too_long(left: list[tuple[int, R]], settings: PrepareSettings) -> list[Removed[R]]:
    limit = settings.maximum_prompt_characters
    if limit is None:
        return []
    removed = []
    for index, record in left:
        length = sum(len(message.content) for message in record.prompt)
        if length > limit:
            why = f"the prompt has {length:,} characters, more than {limit:,}"
            removed.append(Removed(index, record, "prompt too long", why))
    return removed


def _over_the_cap(left: list[tuple[int, R]], settings: PrepareSettings) -> list[Removed[R]]:
    limit = settings.prompts_per_user
    if limit is None:
        return []
    over = over_the_cap([record for _, record in left], limit=limit, seed=settings.seed)
    return [
        Removed(
            index=left[place][0],
            record=left[place][1],
            reason="over the cap per user",
            explanation=f"user '{left[place][1].user}' has more than {limit}",
        )
        for place in over
    ]


class _PersonalData(Generic[R]):
    """Filters splits one after the other and keeps account."""

    def __init__(self, settings: PrepareSettings, removed: list[Removed[R]]) -> None:
        self.action = settings.personal_data
        self.removed = removed
        self.findings: list[Finding] = []
        self.masked = 0

    def filter(self, records: list[R], places_of: dict[int, int]) -> list[R]:
        if self.action == "keep":
            return records
        found: dict[int, list[Finding]] = {}
        for finding in findings(records):
            found.setdefault(finding.index, []).append(finding)
        kept: list[R] = []
        for place, record in enumerate(records):
            if place not in found:
                kept.append(record)
                continue
            index = places_of[id(record)]
            self.findings += [_at(finding, index) for finding in found[place]]
            if self.action == "mask":
                self.masked += 1
                kept.append(masked(record))
            else:
                kinds = ", ".join(dict.fromkeys(finding.kind for finding in found[place]))
                self.removed.append(Removed(index, record, "personal data", f"has {kinds}"))
        return kept


def _at(finding: Finding, index: int) -> Finding:
    return Finding(
        index=index,
        record_id=finding.record_id,
        field=finding.field,
        kind=finding.kind,
        excerpt=finding.excerpt,
        why=finding.why,
    )
