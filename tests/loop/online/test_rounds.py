"""A real loop of two rounds: real server, real models, labelers at the API, and every process
killed once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.serving.tiny_models import save_taught_models

from hark.cli.main import run as run_command
from hark.data.formats import write_comparisons, write_prompts
from hark.data.records import Prompt, ask, chosen_and_rejected
from hark.feedback.judgements import COMPARES
from hark.loop.lineage import descend
from hark.loop.online.experiment import run_experiment
from hark.loop.online.kill_drill import LABELERS, LOOP, MODELS, SERVER, drive, held_receipts
from hark.loop.online.labelers import kept_ledger
from hark.loop.online.place import Loop
from hark.loop.online.reporting import write_loop_report
from hark.loop.online.rounds import Request, go_on
from hark.loop.online.settings import LoopSettings
from hark.loop.online.tracing import trace_rating
from hark.loop.online.votes import read_events
from hark.loop.simulation.characters import CrowdSettings

LABELERS_AT_WORK = 3
ROUNDS = 2


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> LoopSettings:
    """A policy that has learnt one sentence, so that it always ends what it says."""
    directory = tmp_path_factory.mktemp("begin")
    model = save_taught_models(directory, {"start": "a small cat ran home"})["start"]
    prompts, pairs = directory / "prompts.jsonl", directory / "base.jsonl"
    questions = [f"Hello {number}" for number in range(12)]
    write_prompts(prompts, [Prompt(prompt=ask(text)) for text in questions])
    write_comparisons(
        pairs, [chosen_and_rejected(ask(text), "a big cat ran", "a dog") for text in questions]
    )
    return LoopSettings.parse(
        {
            "name": "tiny",
            "device": "cpu",
            "preference": {"model": str(model), "batch_size": 4},
            "policy": {
                "model": str(model), "data": [str(prompts)], "max_response_tokens": 16,
                "total_episodes": 4, "batch_episodes": 4, "minibatch_episodes": 4,
                "ema_decay": None,
            },
            "static": {"data": [str(pairs)]},
            "collect": {
                "items": 30, "labels": 12, "maximum_turns": 1, "minimum_strength": 0,
                "max_response_tokens": 48,
            },
            "held_out": 0.2,
            "measure": {"data": [str(prompts)], "replies": 2},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def loop(settings: LoopSettings, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """Both rounds are over, and each process was killed once in the first."""
    made = Loop.make(tmp_path_factory.mktemp("loops") / "tiny", settings)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    killed = drive(
        made, rounds=ROUNDS, population=CrowdSettings(labelers=LABELERS_AT_WORK),
        kills=[LABELERS, SERVER, MODELS, LOOP],
    )  # fmt: skip
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before
    assert killed == {LABELERS: 1, SERVER: 1, MODELS: 1, LOOP: 1}
    return Loop.open(made.path)


def test_labels_are_those_that_were_acknowledged_each_once(loop: Loop) -> None:
    found = held_receipts(loop)
    for counts in found.values():
        assert (counts["lost"], counts["doubled"], counts["unasked"]) == (0, 0, 0)
    for facts in loop.exports().values():
        with kept_ledger(loop, facts["study"]) as ledger:
            told = {one.event_id for one in ledger.receipts.values() if one.kind in COMPARES}
        kept = {one.id for one in read_events(Path(facts["path"])) if one.kind in COMPARES}
        assert kept == told
        assert len(kept) >= 12
    assert found["exported_labels"]["acknowledged"] >= 24
    assert found["steps"]["acknowledged"] >= 48, "a message and a comparison of each dialogue"


def test_every_step_is_in_the_journal_once_and_the_same_command_does_nothing_more(
    loop: Loop,
) -> None:
    steps = [(entry.round, entry.step) for entry in loop.journal.entries]
    assert len(set(steps)) == len(steps)
    assert loop.journal.rounds_finished == ROUNDS
    before = (loop.path / "journal.jsonl").read_bytes()
    with loop.held() as again:
        request = Request(rounds=ROUNDS, population=CrowdSettings(labelers=LABELERS_AT_WORK))
        assert go_on(again, request) is None
    assert (loop.path / "journal.jsonl").read_bytes() == before
    runs = [path.name.partition("-")[2] for path in (loop.path / "runs").iterdir()]
    assert len(set(runs)) == len(runs), "each stage of each round has one run"


def test_a_rating_leads_to_its_votes_and_a_label_to_its_models(loop: Loop) -> None:
    tree = trace_rating(f"{loop.path}#tiny-round-1")
    votes, model = tree.children
    events = {one.id: one for one in read_events(Path(loop.exports()["online-2"]["path"]))}
    assert votes.facts["events"]
    assert {events[each].kind for each in votes.facts["events"]} == {"comparison"}
    assert sum(votes.facts["labelers"].values()) == votes.facts["votes"]
    studies = [one.name for one in model.walk() if one.kind == "export"]
    assert studies == ["study tiny-round-1"], "it was trained before the second round"
    [label, *_] = votes.facts["events"]
    below = [one.name for one in descend(label, [loop.path]).walk()]
    assert "ppo round-1" not in below
    assert {"ppo round-2"} <= set(below) or "merge round-2" not in below


def test_the_report_rates_every_snapshot_that_was_served(
    loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    found = write_loop_report(loop)
    assert {row["judge_gain"]["n"] for row in found_rows(loop)} == {2 * 12}
    assert {row["judge_gain"]["clusters"] for row in found_rows(loop)} == {12}
    for row in found_rows(loop):
        assert 0 <= row["calibration_error"] <= 1, "measured on what was held out, every round"
    assert all(row["calibration_error"] != "nothing held out" for row in found["rounds"])
    rated = {one["model"]: one["elo"] for one in found["ratings"]["ratings"]}
    assert rated["tiny-start"]["value"] == 1000
    assert rated["tiny-round-2"]["state"] == "no observations"
    assert found["ratings"]["votes"] == sum(sum(row["labels"].values()) for row in found_rows(loop))
    page = (loop.path / "report.html").read_text(encoding="utf-8")
    for name in ("scores-by-tranche", "accuracy-by-round", "judge-by-round", "elo-by-round"):
        assert f'id="{name}"' in page
    assert run_command(["loop", "status", str(loop.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in told["rounds"]] == ["finished"] * (ROUNDS + 1)


def found_rows(loop: Loop) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((loop.path / "report.json").read_text())["rounds"]
    return rows


def test_the_experiment_trains_both_arms_on_as_many_pairs(loop: Loop) -> None:
    with loop.held() as held:
        found = run_experiment(held)
    base, mixture = found["pairs"].values()
    assert base == mixture > 0
    before = (loop.path / "journal.jsonl").read_bytes()
    with loop.held() as held:
        assert run_experiment(held)["run"] == found["run"]
    assert (loop.path / "journal.jsonl").read_bytes() == before
