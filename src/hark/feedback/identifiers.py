"""Identifiers and secrets."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from typing import Any


def new_id() -> str:
    """A version 7 UUID (RFC 9562): its first 48 bits are milliseconds, so that ids sort by age."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def new_pseudonym() -> str:
    """A name for a person that is drawn, not derived, so that nothing leads back from it."""
    return f"anon-{secrets.token_hex(8)}"


def new_secret() -> str:
    """256 bits for a link, a cookie or a token."""
    return secrets.token_urlsafe(32)


def hash_of_secret(secret: str) -> str:
    """What the store keeps of a secret; a 256-bit secret needs no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def hash_of_json(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
