"""The settings on the page are settings."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from hark.loop.online.settings import LoopSettings

PAGE = Path(__file__).parents[3] / "docs" / "online.md"


def test_the_loop_on_the_page_can_be_made() -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    settings = LoopSettings.parse(yaml.safe_load(block), where=str(PAGE))
    study = settings.study(
        "weekly-round-1", round=1, task="dialogue", live=("weekly-start", "weekly-round-0")
    )
    assert (study.name, study.task, study.pay_per_hour) == ("weekly-round-1", "dialogue", 20)
    assert settings.collect.labels == 800
