"""The forms of personal data and secrets, each with the check that tells it from ordinary text.

The patterns lean towards finding, except where ordinary text is more likely: dates, version
numbers, sums, measures and section numbers are left alone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pattern:
    """One way in which a kind of personal data is written."""

    kind: str
    pattern: re.Pattern[str]
    why: str
    """What a reviewer is told."""
    accepts: Callable[[re.Match[str]], bool] = lambda match: True
    """The check that the pattern alone cannot make."""
    group: str | int = 0
    """Which part of the match is the personal data."""
    needs: re.Pattern[str] = re.compile(r"\d")
    """Without this in a text the pattern is not tried, which most texts are spared by."""


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
    if not match[0].isascii() or any(
        int(part) > 255 or (len(part) > 1 and part.startswith("0")) for part in parts
    ):
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

PATTERNS: tuple[Pattern, ...] = (
    Pattern(
        "secret",
        re.compile(
            r"-----BEGIN (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----"
            r"(?:[\s\S]{0,8000}?-----END (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----)?"
        ),
        "the frame of a private key",
        needs=re.compile("-----BEGIN "),
    ),
    Pattern(
        "secret",
        re.compile(
            r"(?<![\w-])(?:sk-[\w-]{20,200}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}"
            r"|github_pat_\w{22,100}|xox[abprs]-[\w-]{10,100}|AIza[\w-]{35}|hf_[A-Za-z0-9]{30,60}"
            r"|glpat-[\w-]{20,60}|eyJ[\w-]{10,500}\.eyJ[\w-]{10,2000}\.[\w-]{10,500})(?![\w-])"
        ),
        "the prefix and length of a service's access key",
    ),
    Pattern(
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
    Pattern(
        "e-mail address",
        re.compile(
            r"(?<![\w.+%-])[\w+%-](?:[\w.+%-]{0,62}[\w+%-])?@(?:[A-Za-z0-9-]{1,63}\.){1,6}"
            r"[A-Za-z]{2,24}(?![\w-])"
        ),
        "name@domain",
        needs=re.compile("@"),
    ),
    Pattern(
        "bank account",
        re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"),
        "an IBAN with right check digits",
        lambda match: is_iban(match[0]),
    ),
    Pattern(
        "card number",
        re.compile(
            r"(?<![\w.,-])(?<!\d )(?:\d{13,19}|\d{4}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}"
            r"|\d{4}(?P<space>[ -])\d{6}(?P=space)\d{4,5})(?![\w-])(?![.,]\d)"
        ),
        "digits of an issuer of cards, with the right check digit",
        _is_card,
    ),
    Pattern(
        "social security number",
        re.compile(
            r"(?<![\w.-])(?P<area>\d{3})-(?P<group>\d{2})-(?P<serial>\d{4})(?![\w-])(?!\.\d)"
        ),
        "ddd-dd-dddd, in the ranges that are given out",
        _is_social_security,
    ),
    Pattern(
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
    Pattern(
        "IP address",
        re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-])(?!\.\d)"),
        "an IPv4 address outside private networks",
        _is_personal_ipv4,
    ),
    Pattern(
        "IP address",
        re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{1,38}(?![\w:])"),
        "a global IPv6 address",
        _is_global_ipv6,
    ),
    Pattern(
        "phone number",
        re.compile(r"(?<![\w)+])(?P<number>\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){1,5})(?!\w)(?!\.\d)"),
        "+ and the digits of an international number",
        lambda match: 9 <= len(_digits(match["number"])) <= 15,
    ),
    Pattern(
        "phone number",
        re.compile(
            r"(?<![\w.)+-])(?P<number>(?:1[ .-])?(?:\(\d{3}\) ?\d{3}[ .-]\d{4}"
            r"|\d{3}(?P<gap>[.-])\d{3}(?P=gap)\d{4}))(?![\w-])(?!\.\d)"
        ),
        "ddd-ddd-dddd",
    ),
    Pattern(
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
    Pattern(
        "street address",
        re.compile(
            r"(?<![\w.,/:$€£-])(?P<number>\d{1,5}[A-Za-z]?) (?P<street>(?:[NSEW]\.? )?"
            rf"(?:[A-Z][\w'’-]{{1,20}} |\d{{1,3}}(?:st|nd|rd|th) ){{1,3}}(?:{_SUFFIX}\b"
            rf"|{_SHORT_SUFFIX}\b\.?))"
        ),
        "a number and the name of a street",
        _is_street,
    ),
    Pattern(
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
    Pattern(
        "street address",
        re.compile(r"\bP\.? ?O\.? Box \d{1,6}\b", flags=re.IGNORECASE),
        "a post-office box",
    ),
)
