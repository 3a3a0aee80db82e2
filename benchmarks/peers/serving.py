"""The contender's end of a benchmark: settings from a file, then one answer for each request.

Needs nothing but Python and torch: it runs in every peer's environment, and in hark's.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Answer = dict[str, Any]


def serve(prepare: Callable[[dict[str, Any]], Callable[[dict[str, Any]], Answer]]) -> None:
    """Answer requests until there are no more.

    prepare: settings to a function that does the work once, as a request asks, and says how it
        went: `seconds` and `amount`, and what else `benchmarks.contender.Repetition` holds.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed goes to the log
    try:
        settings = json.loads(Path(sys.argv[1]).read_text())
        torch.set_num_threads(settings["threads"])
        repeat = prepare(settings)
        _say(answers, {"ready": True})
        for line in sys.stdin:
            _say(answers, repeat(json.loads(line)))
    except Exception as error:
        traceback.print_exc()
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        raise SystemExit(1) from None


def _say(answers: Any, answer: Answer) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
