"""docs/feedback-api.md: its examples run as they stand, and it leaves out no route."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.web.conftest import serving

from hark.feedback import accounts
from hark.feedback.answers import ANSWERS
from hark.feedback.store import Store
from hark.web.application import build_application
from hark.web.client import FeedbackClient
from hark.web.settings import WebSettings

PAGE = (Path(__file__).parents[2] / "docs" / "feedback-api.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
REPLIES = "GET /assignments/{assignment_id}/replies"
"""Served where models answer live."""
OURS = {"sessions", "people", "studies", "members", "exports", "work"}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a server as the page expects it."""
    with Store(tmp_path / "feedback.db") as store:
        accounts.create_owner(store, "owner@example.org", "a long password")
        settings = WebSettings(exports=tmp_path / "exports")
        with serving(lambda: build_application(store, settings=settings)) as url:
            yield url


def examples(language: str, address: str) -> str:
    """All examples of a language, one after the other."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) > 3
    return "\n".join(blocks).replace(ADDRESS, address)


def test_the_examples_in_python_run(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(examples("python", address), "feedback-api.md", "exec"), {})
    assert capsys.readouterr().out == "this is for the owner and the researcher of a study\n"


def test_the_examples_of_the_shell_run(address: str, tmp_path: Path) -> None:
    script = "set -euo pipefail\n" + examples("sh", address)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert '"repeated":false' in done.stdout
    assert '"repeated":true' in done.stdout
    assert done.stdout.count('"kind": "vote"') >= 1


def test_every_route_is_on_the_page_and_nothing_else(address: str) -> None:
    paths = httpx2.get(f"{address}/api/v1/openapi.json").json()["paths"]
    routes = {
        f"{method.upper()} {path.removeprefix('/api/v1')}": set(route.get("tags", ()))
        for path, methods in paths.items()
        for method, route in methods.items()
    }
    named = set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /\S+)`", table("## Routes")))
    assert {name for name, tags in routes.items() if tags & OURS} <= named
    assert named <= {*routes, REPLIES}


def test_every_method_of_the_client_is_on_the_page() -> None:
    methods = {name for name in vars(FeedbackClient) if not name.startswith("_")}
    named = set(re.findall(r"`(\w+)`", table("## Routes")))
    assert methods - {"close"} <= named


def test_every_kind_of_step_is_on_the_page() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", table("## Steps"), re.MULTILINE)) == set(ANSWERS)


def table(heading: str) -> str:
    """What stands under a heading."""
    return PAGE.partition(heading)[2].partition("\n## ")[0]
