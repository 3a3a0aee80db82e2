"""`hark rate` and `hark rehearse`: from files to a table, and what stands in the way said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hark.cli.main import run
from hark.evaluation.intervals import Estimate
from hark.loop.rating import finding

REPLY = {"role": "assistant", "content": "Blue."}


@pytest.fixture
def battles(tmp_path: Path) -> Path:
    """Ten judges of eight battles each: m2 beats m1 five times in eight, with one tie."""
    path = tmp_path / "battles.jsonl"
    rows = []
    for judge in range(10):
        for number in range(8):
            swapped = number % 2 == 1
            best = number < 5 + (judge % 3 == 0)
            a, b = ("m1", "m2") if swapped else ("m2", "m1")
            winner = "tie" if number == 7 else "model_a" if best != swapped else "model_b"
            asked = [{"role": "user", "content": f"Question {judge}.{number}"}, REPLY]
            rows.append(
                {
                    "model_a": a,
                    "model_b": b,
                    "winner": winner,
                    "judge": f"judge{judge}",
                    "conversation_a": asked,
                    "conversation_b": asked,
                }
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def hark(capfd: pytest.CaptureFixture[str], *words: str, fails: bool = False) -> Any:
    status = run([*words, "--json"])
    told = capfd.readouterr()
    assert status == (2 if fails else 0), told.err
    return told.err if fails else json.loads(told.out.splitlines()[-1])


def test_battles_become_elo_and_a_primary_comparison(
    battles: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--data", str(battles), "--output", str(tmp_path / "runs"), "--anchor", "m1")
    primary = ("--primary.model", "m2", "--primary.against", "m1")
    result = hark(capfd, "rate", *options, *primary)
    [judge] = result["judges"]
    assert (judge["votes"], judge["labelers"], judge["anchor"]) == (80, 10, "m1")
    best, anchor = judge["ratings"]
    assert (best["model"], best["wins"], best["ties"]) == ("m2", 54, 10)
    assert best["elo"]["low"] > 1000
    assert anchor["elo"]["state"] == "exact"
    assert judge["primary"]["estimate"]["value"] == pytest.approx((54 + 5) / 80)
    assert judge["primary"]["finding"].startswith("m2 is preferred to m1: 74 %")
    config = json.loads((Path(result["run"]) / "config.json").read_text())
    assert config["effective"]["primary"] == {"model": "m2", "against": "m1"}
    assert run(["report", "--runs", result["run"], "--output", str(tmp_path / "runs")]) == 0


def test_settings_change_what_they_say(
    battles: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("rate", "--data", str(battles), "--output", str(tmp_path / "runs"))

    def elo(*more: str) -> dict[str, Any]:
        judge = hark(capfd, *options, "--anchor", "m1", *more)["judges"][0]
        return dict(judge["ratings"][0]["elo"])

    plain = elo()
    assert elo("--intervals", "bootstrap")["low"] != plain["low"]
    assert elo("--intervals", "bootstrap")["value"] == plain["value"]
    assert elo("--ties", "half")["value"] != plain["value"]
    assert elo("--ridge", "50")["value"] < plain["value"]
    assert elo("--level", "0.8")["low"] > plain["low"]
    assert elo("--clusters", "labeler and prompt")["value"] == plain["value"]
    told = hark(capfd, *options, "--no-order-effect")["judges"][0]
    assert told["first_advantage"] is None


def test_what_cannot_be_rated_is_said_in_a_sentence(
    battles: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("rate", "--data", str(battles), "--output", str(tmp_path / "runs"))
    said = hark(capfd, *options, "--anchor", "m3", fails=True)
    assert "anchor is 'm3', on whom 'votes' has not voted" in said
    said = hark(capfd, *options, "--resamples", "500", fails=True)
    assert "resamples would be ignored" in said
    nameless = tmp_path / "nameless.jsonl"
    nameless.write_text('{"prompt": "Q", "responses": ["a", "b"], "ranks": [1, 2]}\n')
    said = hark(capfd, "rate", "--data", str(nameless), "--output", str(tmp_path), fails=True)
    assert "no vote between models" in said
    assert "1 of responses whose models are not named" in said


def test_a_table_for_people(
    battles: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["rate", "--data", str(battles), "--output", str(tmp_path / "runs")]) == 0
    told = capfd.readouterr().out
    assert "Elo by votes" in told
    assert "anchor" in told


def test_a_rehearsal_says_how_wide_and_how_sure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--studies", "6", "--votes-per-labeler", "10", "--output", str(tmp_path / "runs"))
    few, many = (hark(capfd, "rehearse", *options, "--labelers", n) for n in ("6", "60"))
    assert few["coverage"]["n"] + few["undefined"] == 12
    assert many["elo_width"]["value"] < 0.6 * few["elo_width"]["value"]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.51, 0.7, "A is preferred to B: 60 % (51 to 70 %)."),
        (0.2, 0.49, "B is preferred to A: A wins 60 % (20 to 49 %)."),
        (0.45, 0.7, "Neither of A and B is clearly preferred: A wins 60 % (45 to 70 %)."),
        (None, None, "Too little to say between A and B: one cluster."),
    ],
)
def test_a_finding_needs_an_interval(low: float | None, high: float | None, said: str) -> None:
    state = "one cluster" if low is None else "defined"
    rate = Estimate(value=0.6, low=low, high=high, n=9, clusters=1, state=state)
    assert finding("A", "B", rate) == said
