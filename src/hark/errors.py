"""The errors a person can mend.

HarkError
├── DataError       a file, a line, a record
├── SettingsError   a setting that is unknown, ignored or contradicts another
├── ModelError      a model, a tokenizer, or the two together
└── RunError        a run directory, a checkpoint, a disk

The command line prints the message of a `HarkError` and exits with status 2. Anything else that
escapes is a defect of hark and keeps its traceback. Every message says what happened, the offending
value, and the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarkError(ValueError):
    """What happened, the offending value, and the way out, in one sentence."""


class DataError(HarkError):
    """A data file or one record of it; the message starts with `file:line` where there is one."""


class SettingsError(HarkError):
    """A setting that is unknown, would be ignored, or contradicts another."""


class ModelError(HarkError):
    """A model directory, a tokenizer, or the two together."""


class RunError(HarkError):
    """A run directory, a checkpoint or the disk below it."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the closest of `choices`, or an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
