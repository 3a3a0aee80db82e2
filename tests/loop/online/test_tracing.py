"""A loop's rating, traced where there is little to trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from hark.data.formats import write_comparisons, write_prompts
from hark.data.records import Prompt, ask, chosen_and_rejected
from hark.errors import RunError
from hark.loop.online.place import Loop
from hark.loop.online.settings import LoopSettings
from hark.loop.online.tracing import trace_rating


def test_nothing_is_known_of_a_start_that_no_run_made(tmp_path: Path) -> None:
    prompts, pairs, model = (tmp_path / name for name in ("p.jsonl", "c.jsonl", "model"))
    write_prompts(prompts, [Prompt(prompt=ask("Why?"))])
    write_comparisons(pairs, [chosen_and_rejected(ask("Why?"), "So.", "No.")])
    model.mkdir()
    (model / "config.json").write_text("{}")
    settings = {
        "preference": {"model": str(model)},
        "policy": {"model": str(model), "data": [str(prompts)]},
        "static": {"data": [str(pairs)]},
        "collect": {"labels": 10},
        "measure": {"data": [str(prompts)]},
    }
    Loop.make(tmp_path / "loop", LoopSettings.parse(settings))
    tree = trace_rating(str(tmp_path / "loop"))
    (child,) = tree.children
    assert tree.name == "rating of loop-start"
    assert (child.kind, child.path) == ("file", str(model))
    with pytest.raises(RunError, match="no snapshot 'x'"):
        trace_rating(f"{tmp_path / 'loop'}#x")
