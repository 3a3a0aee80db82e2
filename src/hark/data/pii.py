"""Personal data and secrets in text: found, shown masked for review, and masked or dropped.

InstructGPT filters personally identifiable information from its training prompts (2203.02155,
section 3.2) without saying how. Departure: patterns with checks, after which each finding says why
it was taken for what it is. They miss names and whatever has no form; a person reviews the report.

The patterns lean towards finding, except where ordinary text is more likely: dates, version
numbers, sums, measures and section numbers are left alone.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hark.data.records import Comparison, Demonstration, Message, Prompt, Text

R = TypeVar("R", bound=Text | Prompt | Demonstration | Comparison)

CONTEXT_CHARACTERS = 24
"""How much text around a finding the reviewer sees on each side."""


@dataclass(frozen=True)
class Match:
    """A piece of one text that looks like personal data."""

    kind: str
    start: int
    end: int
    """`text[start:end]` is the piece."""
    why: str


@dataclass(frozen=True)
class Finding:
    """A match in a record, fit to be shown: letters and digits of all matches are masked."""

    index: int
    """The record's place in the input."""
    record_id: str | None
    field: str
    """Such as `prompt[0]` or `responses[1]`."""
    kind: str
    excerpt: str
    why: str


@dataclass(frozen=True)
class _Pattern:
    kind: str
    pattern: re.Pattern[str]
    why: str
    accepts: Callable[[re.Match[str]], bool] = lambda match: True
    group: str | int = 0
    needs: re.Pattern[str] = re.compile(r"\d")
    """Without this in a text the pattern is not tried, which most texts are spared by."""


def find_personal_data(text: str) -> list[Match]:
    """The matches in a text, in order and without overlap; of overlapping ones the first kind."""
    matches: list[Match] = []
    for pattern in _PATTERNS:
        if not pattern.needs.search(text):
            continue
        for found in pattern.pattern.finditer(text):
            start, end = found.span(pattern.group)
            overlaps = any(start < other.end and other.start < end for other in matches)
            if not overlaps and pattern.accepts(found):
                matches.append(Match(pattern.kind, start, end, pattern.why))
    return sorted(matches, key=lambda match: match.start)


def mask_personal_data(text: str) -> str:
    """The text with each match replaced by its kind in brackets, such as `[e-mail address]`."""
    return _replaced(text, find_personal_data(text), lambda match: f"[{match.kind}]")


def findings(records: Sequence[Text | Prompt | Demonstration | Comparison]) -> list[Finding]:
    """What looks like personal data in the records, responses included."""
    found = []
    for index, record in enumerate(records):
        for field, text in _fields(record):
            matches = find_personal_data(text)
            for match in matches:
                found.append(
                    Finding(
                        index=index,
                        record_id=getattr(record, "id", None),
                        field=field,
                        kind=match.kind,
                        excerpt=_excerpt(text, match, matches),
                        why=match.why,
                    )
                )
    return found


def masked(record: R) -> R:
    """The record with the matches of all its texts replaced by their kinds."""
    if isinstance(record, Text):
        return dataclasses.replace(record, text=mask_personal_data(record.text))
    prompt = tuple(Message(turn.role, mask_personal_data(turn.content)) for turn in record.prompt)
    if isinstance(record, Demonstration):
        response = mask_personal_data(record.response)
        return dataclasses.replace(record, prompt=prompt, response=response)
    if isinstance(record, Comparison):
        responses = tuple(map(mask_personal_data, record.responses))
        return dataclasses.replace(record, prompt=prompt, responses=responses)
    return dataclasses.replace(record, prompt=prompt)


def _fields(record: Text | Prompt | Demonstration | Comparison) -> Iterator[tuple[str, str]]:
    if isinstance(record, Text):
        yield "text", record.text
        return
    for place, turn in enumerate(record.prompt):
        yield f"prompt[{place}]", turn.content
    if isinstance(record, Demonstration):
        yield "response", record.response
    if isinstance(record, Comparison):
        for place, response in enumerate(record.responses):
            yield f"responses[{place}]", response


def _excerpt(text: str, match: Match, matches: Iterable[Match]) -> str:
    """The match and what is around it; every match keeps its shape only (`xxxx@xxxx.xx`)."""
    shaped = _replaced(text, matches, lambda other: _shape(text[other.start : other.end]))
    start = max(0, match.start - CONTEXT_CHARACTERS)
    end = min(len(text), match.end + CONTEXT_CHARACTERS)
    excerpt = " ".join(shaped[start:end].split())
    return f"{'…' if start else ''}{excerpt}{'…' if end < len(text) else ''}"


def _shape(secret: str) -> str:
    """As long as the secret, with x for each letter and 9 for each digit."""
    return "".join("9" if c.isdigit() else "x" if c.isalpha() else c for c in secret)


def _replaced(text: str, matches: Iterable[Match], by: Callable[[Match], str]) -> str:
    pieces, end = [], 0
    for match in matches:
        pieces += [text[end : match.start], by(match)]
        end = match.end
    return "".join([*pieces, text[end:]])


# ── checks ───────────────────────────────────────────────────────────────────────────────────────


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|6(?:011|5\d\d|4[4-9]\d)\d{12}"
)


def _is_card(match: re.Match[str]) -> bool:
    digits = _digits(match[0])
    return _ISSUERS.fullmatch(digits) is not None and passes_luhn(digits)


def is_iban(text: str) -> bool:
    """Whether the check digits of an account number are right (ISO 13616: modulo 97 is 1)."""
    compact = text.replace(" ", "")
    if not 15 <= len(compact) <= 34:
        return False
    moved = compact[4:] + compact[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


_VERSION_CUE = re.compile(
    r"(?:\bv|version|ver\.?|release|section|sec\.?|§|chapter|clause|figure|table|appendix|step"
    r"|item|build|firmware|driver|python|java|chrome|windows|ios|android|kernel)\s*$",
    flags=re.IGNORECASE,
)


def _is_personal_ipv4(match: re.Match[str]) -> bool:
    """Not a version or section number, nor an address that names no one in particular."""
    if _VERSION_CUE.search(match.string[: match.start()][-24:]):
        return False
    parts = match[0].split(".")
    if any(int(part) > 255 or (len(part) > 1 and part.startswith("0")) for part in parts):
        return False
    if all(len(part) == 1 for part in parts):
        return False
    address = ipaddress.IPv4Address(match[0])
    local = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "0.0.0.0/8")
    if any(address in ipaddress.IPv4Network(network) for network in local):
        return False
    return not (address.is_loopback or address.is_multicast or int(address) >= 0xF0000000)


def _is_global_ipv6(match: re.Match[str]) -> bool:
    try:
        address = ipaddress.IPv6Address(match[0])
    except ValueError:
        return False
    # 2000::/3: the block of addresses given to networks; C++ names such as a::b are outside it.
    return int(address) >> 125 == 1


_DATE = re.compile(r"\d{4}([ ./-])\d{1,2}\1\d{1,2}|\d{1,2}([ ./-])\d{1,2}\2\d{4}|\d{4}-\d{4}")


def _is_dialled(match: re.Match[str]) -> bool:
    """7 to 15 digits (ITU-T E.164) that are no date and no span of years."""
    number = match["number"]
    return 7 <= len(_digits(number)) <= 15 and _DATE.fullmatch(number) is None


def _is_social_security(match: re.Match[str]) -> bool:
    area, group, serial = match["area"], match["group"], match["serial"]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


_NOT_STREETS = re.compile(
    r"\b(?:minutes?|hours?|days?|weeks?|months?|years?|miles?|meters?|metres?|percent|best|top|easy"
    r"|simple|people|times?)\b",
    flags=re.IGNORECASE,
)
_YEAR_CUE = re.compile(
    r"\b(?:in|since|of|by|until|till|from|during|after|before|the|around|circa)\s+$",
    flags=re.IGNORECASE,
)


def _is_street(match: re.Match[str]) -> bool:
    """Not "a 20 Minute Drive", nor "in 1929 Wall Street"."""
    if _NOT_STREETS.search(match["street"]):
        return False
    is_year = re.fullmatch(r"1[5-9]\d\d|20\d\d", match["number"])
    return not (is_year and _YEAR_CUE.search(match.string[: match.start()][-12:]))


def _is_secret(match: re.Match[str]) -> bool:
    """Letters and digits mixed, as no word or number is."""
    secret = match["secret"]
    return (
        bool(re.search(r"\d", secret))
        and bool(re.search(r"[A-Za-z]", secret))
        and len(set(secret)) >= 8
    )


# ── patterns, the more specific first ────────────────────────────────────────────────────────────

_PHONE_CUE = (
    r"(?:phone|telephone|tel|mobile|cell(?:phone)?|fax|whatsapp|call|text|ring|dial|reach)"
    r"(?:\s+(?:me|us|him|her|them|number|no|is|at|on|to)){0,3}[\s.:#]{1,3}"
)
_SUFFIX = r"(?:Street|Avenue|Boulevard|Road|Lane|Drive|Court|Terrace|Crescent|Place|Square|Way)"
_SHORT_SUFFIX = r"(?:St|Ave|Blvd|Rd|Ln|Dr|Ct|Cres|Pl|Sq)"

_PATTERNS: tuple[_Pattern, ...] = (
    _Pattern(
        "secret",
        re.compile(
            r"-----BEGIN (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----"
            r"(?:[\s\S]{0,8000}?-----END (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----)?"
        ),
        "the frame of a private key",
        needs=re.compile("-----BEGIN "),
    ),
    _Pattern(
        "secret",
        re.compile(
            r"(?<![\w-])(?:sk-[\w-]{20,200}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}"
            r"|github_pat_\w{22,100}|xox[abprs]-[\w-]{10,100}|AIza[\w-]{35}|hf_[A-Za-z0-9]{30,60}"
            r"|glpat-[\w-]{20,60}|eyJ[\w-]{10,500}\.eyJ[\w-]{10,2000}\.[\w-]{10,500})(?![\w-])"
        ),
        "the prefix and length of a service's access key",
    ),
    _Pattern(
        "secret",
        re.compile(
            r"(?:api[ _-]?key|access[ _-]?key|secret(?:[ _-]?key)?|(?:auth|access)[ _-]?token|token"
            r"|password|passwd|pwd)[\"']?\s{0,3}(?:=|:|\bis\b)\s{0,3}[\"']?"
            r"(?P<secret>[\w+/=.!@#$%^&*-]{8,200})",
            flags=re.IGNORECASE,
        ),
        "letters and digits after a word such as 'password' or 'api key'",
        _is_secret,
        group="secret",
    ),
    _Pattern(
        "e-mail address",
        re.compile(
            r"(?<![\w.+%-])[\w+%-](?:[\w.+%-]{0,62}[\w+%-])?@(?:[A-Za-z0-9-]{1,63}\.){1,6}"
            r"[A-Za-z]{2,24}(?![\w-])"
        ),
        "name@domain",
        needs=re.compile("@"),
    ),
    _Pattern(
        "bank account",
        re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"),
        "an IBAN with right check digits",
        lambda match: is_iban(match[0]),
    ),
    _Pattern(
        "card number",
        re.compile(
            r"(?<![\w.,-])(?<!\d )(?:\d{13,19}|\d{4}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}"
            r"|\d{4}(?P<space>[ -])\d{6}(?P=space)\d{4,5})(?![\w-])(?![.,]\d)"
        ),
        "digits of an issuer of cards, with the right check digit",
        _is_card,
    ),
    _Pattern(
        "social security number",
        re.compile(
            r"(?<![\w.-])(?P<area>\d{3})-(?P<group>\d{2})-(?P<serial>\d{4})(?![\w-])(?!\.\d)"
        ),
        "ddd-dd-dddd, in the ranges that are given out",
        _is_social_security,
    ),
    _Pattern(
        "social security number",
        re.compile(
            r"(?:\bSSN|social security(?: number| no\.?)?)[\s:#]{0,3}(?:is\s)?\s?"
            r"(?P<number>(?P<area>\d{3})[ -]?(?P<group>\d{2})[ -]?(?P<serial>\d{4}))(?!\d)",
            flags=re.IGNORECASE,
        ),
        "nine digits after 'social security'",
        _is_social_security,
        group="number",
    ),
    _Pattern(
        "IP address",
        re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-])(?!\.\d)"),
        "an IPv4 address outside private networks",
        _is_personal_ipv4,
    ),
    _Pattern(
        "IP address",
        re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{1,38}(?![\w:])"),
        "a global IPv6 address",
        _is_global_ipv6,
    ),
    _Pattern(
        "phone number",
        re.compile(r"(?<![\w)+])(?P<number>\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){1,5})(?!\w)(?!\.\d)"),
        "+ and the digits of an international number",
        lambda match: 9 <= len(_digits(match["number"])) <= 15,
    ),
    _Pattern(
        "phone number",
        re.compile(
            r"(?<![\w.)+-])(?P<number>(?:1[ .-])?(?:\(\d{3}\) ?\d{3}[ .-]\d{4}"
            r"|\d{3}(?P<gap>[.-])\d{3}(?P=gap)\d{4}))(?![\w-])(?!\.\d)"
        ),
        "ddd-ddd-dddd",
    ),
    _Pattern(
        "phone number",
        re.compile(
            rf"\b{_PHONE_CUE}(?P<number>\(?\d{{1,5}}\)?(?:[ .-]?\d{{2,5}}){{1,4}})(?![\w-])"
            r"(?![.,]\d)",
            flags=re.IGNORECASE,
        ),
        "digits after a word such as 'call' or 'phone'",
        _is_dialled,
        group="number",
    ),
    _Pattern(
        "street address",
        re.compile(
            r"(?<![\w.,/:$€£-])(?P<number>\d{1,5}[A-Za-z]?) (?P<street>(?:[NSEW]\.? )?"
            rf"(?:[A-Z][\w'’-]{{1,20}} |\d{{1,3}}(?:st|nd|rd|th) ){{1,3}}(?:{_SUFFIX}\b"
            rf"|{_SHORT_SUFFIX}\b\.?))"
        ),
        "a number and the name of a street",
        _is_street,
    ),
    _Pattern(
        "street address",
        re.compile(
            r"\b(?:lives? (?:at|on)|living at|address(?: is|:)|located at|deliver(?:ed)? to)\s+"
            r"(?P<place>(?P<number>\d{1,5}[a-z]?) (?P<street>(?:[\w'’-]{1,20} ){1,3}"
            rf"(?:{_SUFFIX}|{_SHORT_SUFFIX})\b\.?))",
            flags=re.IGNORECASE,
        ),
        "a number and the name of a street",
        _is_street,
        group="place",
    ),
    _Pattern(
        "street address",
        re.compile(r"\bP\.? ?O\.? Box \d{1,6}\b", flags=re.IGNORECASE),
        "a post-office box",
    ),
)
