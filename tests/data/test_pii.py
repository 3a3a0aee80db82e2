"""Personal data of each kind is found, and ordinary text is left alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hark.data.personal_patterns import is_iban, passes_luhn
from hark.data.pii import find_personal_data, findings, mask_personal_data, masked
from hark.data.records import Comparison, Demonstration, Message, Prompt, Text, ask


def kinds(text: str) -> list[str]:
    return [match.kind for match in find_personal_data(text)]


def secret(*parts: str) -> str:
    """Joined here so that no scanner takes this file for a leak."""
    return "".join(parts)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to jane.doe+news@mail.example.co.uk, please.", "e-mail address"),
        ("My address is <ada_99@example.com>.", "e-mail address"),
        ("Call me at 415-555-0132 tonight.", "phone number"),
        ("(415) 555-0132", "phone number"),
        ("415.555.0132", "phone number"),
        ("It is 1-415-555-0132", "phone number"),
        ("my phone number is 555-0123.", "phone number"),
        ("Tel: 020 7946 0958", "phone number"),
        ("+44 20 7946 0958", "phone number"),
        ("+14155550132", "phone number"),
        ("+49 (0)30 901820", "phone number"),
        ("card 4111 1111 1111 1111 exp 12/27", "card number"),
        ("4111-1111-1111-1111", "card number"),
        ("378282246310005", "card number"),
        ("3782 822463 10005", "card number"),
        ("5555555555554444.", "card number"),
        ("My SSN: 078-05-1120", "social security number"),
        ("social security number 078051120", "social security number"),
        ("ping 203.0.113.77 from home", "IP address"),
        ("8.8.4.40", "IP address"),
        ("2001:db8:85a3::8a2e:370:7334", "IP address"),
        ("I live at 742 Evergreen Terrace.", "street address"),
        ("Send it to 1600 Amphitheatre Parkway Dr., CA", "street address"),
        ("she lives at 12 elm street", "street address"),
        ("221B Baker Street, London", "street address"),
        ("at 350 5th Avenue", "street address"),
        ("123 New York Avenue", "street address"),
        ("P.O. Box 1234", "street address"),
        ("DE89 3704 0044 0532 0130 00", "bank account"),
        ("GB82WEST12345698765432", "bank account"),
        (secret("sk-", "abcDEF0123456789abcDEF01"), "secret"),
        (secret("AKIA", "IOSFODNN7EXAMPLE"), "secret"),
        (secret("ghp_", "0123456789abcdefghijABCDEFGHIJ012345"), "secret"),
        (secret("pass", "word = hunter2isAgoodone"), "secret"),
        (secret('"api_', 'key": "a8f5f167f44f4964"'), "secret"),
        (
            secret("-----BEGIN ", "RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE ", "KEY-----"),
            "secret",
        ),
    ],
)
def test_personal_data_is_found(text: str, kind: str) -> None:
    assert kinds(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "On 2023-01-15, 12/31/1999 and 15.01.2023 at 12:30:45.",
        "From 1914-1918 and 1939-1945.",
        "Reach us on 2023-01-15 or call before 12-31-1999.",
        "Version 10.15.7.2 and v1.22.333.4 and Python 3.11.7.22.",
        "See section 1.2.3.4 and 4.3.2.1.",
        "127.0.0.1, 192.168.1.20, 10.20.30.40, 0.0.0.0 and 255.255.255.0",
        "256.300.1.20 is no address.",
        "3.14159265358979323846 and 2.718281828459045",
        "100 200 3000 and 12 + 3456 = 3468",
        "1234567890123456 has the wrong check digit; so has 4111 1111 1111 1112.",
        "The population is 8,045,311,447.",
        "ISBN 978-3-16-148410-0 and 0-306-40615-2",
        "000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567",
        "x = a@b; f(x)+12345678901; @someone, user@localhost",
        "std::vector, a::b, dead::beef, fe80::1 and 00:1A:2B:3C:4D:5E",
        "It is a 20 Minute Drive and there are 5 Best Places in Wall Street.",
        "In 1929 Wall Street crashed; the 1968 Summer Road trip.",
        "I have 12 cats and 4 dogs in the road.",
        "GB82WEST12345698765433 has wrong check digits",
        "The password is required. The token is invalid. secret: everything",
        "Call 911 or text 12345 for help.",
        "call f(100, 200, 300) twice",
        "The phone costs $1,299.00 and has 128 GB.",
        "GDP grew 2.5-3.5% in 2010-2019.",
        "sk-learn and hf_hub are names",
        "Win 2-1, 3-0; ratio 16:9; 1:2:3",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert kinds(text) == []


@settings(deadline=None, max_examples=200)
@given(st.text("0123456789٣४ .-:+@()/aAzZ#DE\n", max_size=80))
def test_no_text_is_too_strange(text: str) -> None:
    matches = find_personal_data(text)
    assert all(a.end <= b.start for a, b in itertools.pairwise(matches))


def test_check_digits() -> None:
    # 79927398713 is the textbook example of the Luhn check.
    assert passes_luhn("79927398713")
    assert not any(passes_luhn(f"7992739871{digit}") for digit in "012456789")
    assert is_iban("GB82 WEST 1234 5698 7654 32")
    assert not is_iban("GB28 WEST 1234 5698 7654 32")


def test_masking_leaves_nothing_to_find() -> None:
    text = "Mail a.b@example.com or call 415-555-0132; card 4111111111111111."
    assert mask_personal_data(text) == (
        "Mail [e-mail address] or call [phone number]; card [card number]."
    )
    assert kinds(mask_personal_data(text)) == []


def test_findings_can_be_reviewed_without_giving_anything_away() -> None:
    records = [
        Prompt(prompt=ask("Nothing here.")),
        Comparison(
            prompt=(Message("user", "hi"), Message("assistant", "yes"), Message("user", "go on")),
            responses=("ok", "Mail ann@example.com or call 415-555-0132 now."),
            ranks=(1, 2),
            id="c1",
        ),
    ]
    first, second = findings(records)
    assert (first.index, first.record_id, first.field) == (1, "c1", "responses[1]")
    assert first.kind == "e-mail address"
    # 24 characters on each side, with the phone number beside the address masked as well.
    assert first.excerpt == "Mail xxx@xxxxxxx.xxx or call 999-999-9999 no…"
    assert second.excerpt == "…xxx@xxxxxxx.xxx or call 999-999-9999 now."
    assert second.why == "ddd-ddd-dddd"


def test_every_text_of_a_record_is_masked() -> None:
    mail, gone = "a@example.com", "[e-mail address]"
    assert masked(Text(text=mail, source="s")) == Text(text=gone, source="s")
    assert masked(Prompt(prompt=ask(mail), user="u")) == Prompt(prompt=ask(gone), user="u")
    assert masked(Demonstration(prompt=ask(mail), response=mail)) == Demonstration(
        prompt=ask(gone), response=gone
    )
    pair = Comparison(prompt=ask("Q"), responses=(mail, "b"), ranks=(1, 2), strength=2.0)
    assert masked(pair) == Comparison(
        prompt=ask("Q"), responses=(gone, "b"), ranks=(1, 2), strength=2.0
    )


@pytest.mark.parametrize(
    "text",
    [
        "1-" * 20_000,
        "a" * 50_000 + "@",
        "a." * 20_000 + "@",
        "1 " * 20_000,
        "A1 " * 10_000,
        "x@" + "a." * 20_000,
        "1:" * 20_000,
        "call " * 10_000,
        "12 Ab " * 10_000,
        "password: " * 5_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    # A pattern that backtracks would take minutes; the runner's time limit is the assertion.
    find_personal_data(text)
