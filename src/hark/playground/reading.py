"""Read a response sentence by sentence: what each one says, by looking it up in the world.

The world can produce a finite number of sentences, so a sentence that is not found is `strange`:
garbled, made up, or cut off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from hark.playground import conduct, writing
from hark.playground.conduct import HARM_OF_ACT, HARMS
from hark.playground.craft import GOALS
from hark.playground.knowledge import statement_index


@dataclass(frozen=True, slots=True)
class Reading:
    """What one sentence says."""

    kind: str
    """fact, tips, remark, refusal, reason, alternative, half-hearted, compliance, dodge, courtesy,
    rude, strange, or a `writing.Piece` kind."""
    about: tuple[str, ...] = ()
    """fact: (relation, subject, value); tips: (deed named or "", topic, tip, …); remark: (goal,);
    refusal: (act named or "",); reason, alternative: (harm,); strange: (the sentence,)."""
    true: bool = True
    """False for a false statement of fact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResponse:
    """A whole response, read."""

    readings: tuple[Reading, ...]
    """One per sentence, in order."""
    words: tuple[str, ...]
    finished: bool
    """Whether the last sentence comes to its end."""
    personal: bool
    """Whether it gives an e-mail address or a phone number."""
    rude_words: bool


_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+|(?<=\))\s+(?=[A-Z])")
_WORD = re.compile(r"[a-z0-9']+")
_PERSONAL = re.compile(r"\S+@\S+\.\w+|\b\d{3}[- ]\d{4}\b")
_ADVICE = re.compile(r"(?:to (?P<deed>.+?), |you can |try to )(?P<tips>.+)[.!]")
_TIP_END = re.compile(r", | and ")


@cache
def _tips() -> dict[str, str]:
    """Every tip, good or harmful, with its topic: a goal, or `harm:` and the kind of harm."""
    good = {tip: goal.name for goal in GOALS.values() for tip in goal.tips}
    return good | {tip: f"harm:{harm.name}" for harm in HARMS.values() for tip in harm.tips}


@cache
def _known_sentences() -> dict[str, Reading]:
    index = {
        sentence: Reading("fact", (fact.relation, fact.subject, fact.value), fact.true)
        for sentence, fact in statement_index().items()
    }
    for sentence, piece in writing.pieces():
        index[sentence.lower()] = Reading(piece.kind, piece.slots)
    for goal in GOALS.values():
        index[goal.remark.lower()] = Reading("remark", (goal.name,))
    for harm in HARMS.values():
        index |= {sentence.lower(): Reading("reason", (harm.name,)) for sentence in harm.reasons}
        index |= {s.lower(): Reading("alternative", (harm.name,)) for s in harm.alternatives}
    for template in conduct.REFUSALS_NAMING_THE_ACT:
        for act in HARM_OF_ACT:
            index[template.format(act=act).lower()] = Reading("refusal", (act,))
    for kind, sentences in (
        ("refusal", conduct.REFUSALS),
        ("half-hearted", conduct.HALF_HEARTED),
        ("compliance", conduct.COMPLIANCE),
        ("dodge", conduct.DODGES),
        ("courtesy", conduct.COURTESIES),
        ("rude", conduct.RUDE),
    ):
        index |= {s.lower(): Reading(kind, ("",) if kind == "refusal" else ()) for s in sentences}
    return index


def _read_advice(sentence: str) -> Reading | None:
    found = _ADVICE.fullmatch(sentence)
    if not found:
        return None
    tips = _TIP_END.split(found["tips"])
    topics = {_tips().get(tip) for tip in tips}
    if None in topics:
        return None
    topic = topics.pop() if len(topics) == 1 else "mixed"
    return Reading("tips", (found["deed"] or "", topic or "", *tips))


@lru_cache(maxsize=100_000)
def read_sentence(sentence: str) -> Reading:
    """What a sentence says, whatever its capitals."""
    lowered = sentence.lower()
    known = _known_sentences().get(lowered)
    return known or _read_advice(lowered) or Reading("strange", (sentence,))


def read_response(text: str) -> ReadResponse:
    """Split a response into sentences and read each one."""
    text = text.strip()
    sentences = [" ".join(part.split()) for part in _SENTENCE_END.split(text) if part.strip()]
    readings = tuple(read_sentence(sentence) for sentence in sentences)
    words = tuple(_WORD.findall(text.lower()))
    ends_well = text[-1:] in (".", "!", "?") or (bool(readings) and readings[-1].kind == "code")
    return ReadResponse(
        readings=readings,
        words=words,
        finished=ends_well,
        personal=_PERSONAL.search(text) is not None,
        rude_words=not conduct.RUDE_WORDS.isdisjoint(words),
    )


_BARE_START = re.compile(r"^(?:it is |in |an? |the )+")


def bare_words(sentence: str) -> str:
    """A short answer without article and full stop, in lower case: `The forest.` → `forest`."""
    return _BARE_START.sub("", sentence.lower().rstrip(".!?"))
