"""Responses that say which model wrote them.

FastChat's arena leaves out battles in which a model names itself, since whoever votes is not blind
any more. Such a comparison is kept here like any other, marked `names_model` in its event, and left
out where models are held against each other (`votes`).
"""

from __future__ import annotations

import re

from hark.feedback.records import Candidate

_INTRODUCES = r"(?:\bI\s+am|\bI['’]m|\bmy\s+name\s+is|\bI\s+am\s+called)\s+(?:an?\s+|the\s+)?"
"""A snapshot named by one plain word ("base") is named where a response introduces itself so."""


def names_model(candidate: Candidate) -> bool:
    """Whether a response names the snapshot that wrote it, however it joins the parts of the name.

    Spaces join only a name with a digit: "model a" may be two words of any sentence.
    """
    snapshot = candidate.snapshot or ""
    parts = re.findall(r"[^\W_]+", snapshot)
    if not parts or snapshot == "human":
        return False
    joint = r"[\s_\-./:]*" if any(map(str.isdigit, snapshot)) else r"[_\-./:]*"
    name = rf"(?<!\w){joint.join(map(re.escape, parts))}(?!\w)"
    pattern = name if len(parts) > 1 else _INTRODUCES + name
    return re.search(pattern, candidate.text, re.IGNORECASE) is not None
