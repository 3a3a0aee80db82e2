"""Simulated labelers at a real server: what they were told is kept, is kept; who they are shows."""

from __future__ import annotations

import contextlib
import json
import random
import re
import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from tests.feedback.conftest import postgresql_server, postgresql_url  # noqa: F401 (fixtures)
from tests.feedback.workshop import Workshop
from tests.web.conftest import serving
from tests.web.fake_endpoint import FakeEndpoint

from hark.cli.main import run
from hark.feedback import accounts, items, sign_in, studies
from hark.feedback.assignment import find, steps_of
from hark.feedback.dialogues import dialogue_of
from hark.feedback.records import Candidate
from hark.feedback.store import Store
from hark.feedback.studies import Study
from hark.feedback.tasks import DialogueTask, TaskKind
from hark.loop.simulation import truths
from hark.loop.simulation.answering import fingerprint, reply
from hark.loop.simulation.characters import CrowdSettings, crowd
from hark.loop.simulation.crowd import Invited, Outcome, WorkSettings, work
from hark.loop.simulation.findings import findings, kept, suspicions_of
from hark.loop.simulation.items import playground_items
from hark.loop.simulation.labeler import MOST_FAILURES, wait_for_replies
from hark.loop.simulation.latency import Timed
from hark.playground.demonstrations import imperfect_response
from hark.playground.tasks import read_prompt
from hark.web.application import build_application
from hark.web.bodies import ViewBody
from hark.web.client import FeedbackClient
from hark.web.live.endpoints import LiveModel, LiveModels

KINDS: tuple[TaskKind, ...] = typing.get_args(TaskKind)
FIVE = CrowdSettings(
    labelers=5, biased=0.2, guessers=0, spammers=0.2, speeders=0, pasters=0.2, abandoners=0.2
)


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(accounts, "_HASHER", quick)
    monkeypatch.setattr(accounts, "hash_of_nobody", lambda: quick.hash("nobody's password"))


class Site:
    """A server over a store, its owner, and models that answer at once."""

    def __init__(self, store: Store, url: str) -> None:
        self.workshop, self.store, self.url = Workshop(store), store, url
        self.token = sign_in.create_api_token(store, self.workshop.owner.id, "test")
        self.notes: list[Timed] = []

    def study(self, kind: TaskKind, count: int, **settings: object) -> Study:
        study = self.workshop.study(kind, **settings)
        new = playground_items(kind, count)
        items.add_items(self.store, study.id, new, by=self.workshop.owner.id)
        return study

    def let_work(
        self, study: Study, dials: CrowdSettings, most: int | None = None, away: float = 0.0
    ) -> Outcome:
        settings = WorkSettings(labels_each=most, away_seconds=away)
        name = study.settings.name
        with FeedbackClient(self.url, self.token) as owner:
            seat = Invited(owner=owner, url=self.url, study=name, notes=self.notes)
            return work(
                crowd(dials), seat, name, settings, notes=self.notes, replies=self.answer_live
            )

    def answer_live(self, client: FeedbackClient, assignment_id: str) -> bool:
        """What the models' route does: replies to the last words, kept in the store."""
        person = client.me().person.id
        _, item = find(self.store, assignment_id, person)
        with self.store.read() as connection:
            steps = steps_of(connection, assignment_id)
            live = dialogue_of(connection, item, assignment_id, steps)
        texts = [
            f"{text} ({place})" for place, text in enumerate(_replies(live.messages[-1].content))
        ]
        drawn = [Candidate(text=text, snapshot=f"model-{text[-2]}") for text in texts]
        count = 2 if isinstance(item.task, DialogueTask) else 1
        items.put_candidates(
            self.store, item.id, drawn[:count], assignment_id=assignment_id, turn=live.turn
        )
        return True

    def records(self, study: Study) -> list[dict[str, Any]]:
        with FeedbackClient(self.url, self.token) as owner:
            return list(owner.events(study.settings.name))


def _replies(asked: str) -> tuple[str, str]:
    said = truths.dialogue_of([{"role": "user", "content": asked}])
    task = read_prompt(said)
    assert task is not None, asked
    rng = random.Random(asked)
    one, other = (imperfect_response(task, rng, carelessness=c) for c in (0.3, 3.0))
    return one, other


@contextlib.contextmanager
def site_at(place: str | Path) -> Iterator[Site]:
    with Store(place) as store, serving(lambda: build_application(store)) as url:
        yield Site(store, url)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_at(tmp_path / "feedback.db") as made:
        yield made


def check_kept(outcome: Outcome, records: list[dict[str, Any]]) -> None:
    """The log holds what was acknowledged, and of these labelers nothing else."""
    assert not outcome.errors, outcome.errors
    assert kept(outcome, records) == {"lost": 0, "doubled": 0, "altered": 0}
    names = {diary.pseudonym for diary in outcome.diaries}
    others = ("skip", "consent")
    steps = [one for one in records if one["labeler"] in names and one["kind"] not in others]
    told = [one.event_id for one in outcome.receipts]
    assert sorted(one["event_id"] for one in steps) == sorted(told)
    assert len(set(told)) == len(told)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_acknowledged_is_in_the_store_for_every_kind(site: Site, kind: TaskKind) -> None:
    study = site.study(kind, 3, overlap=5)
    outcome = site.let_work(study, FIVE)
    check_kept(outcome, site.records(study))
    done = sum(diary.items + diary.skipped for diary in outcome.diaries)
    train = [one for one in playground_items(kind, 3) if one.use == "train"]
    expected = sum(
        all(diary.character.consents(category) for category in one.categories)
        for diary in outcome.diaries
        for one in train
    )
    assert done == expected
    assert {diary.ended for diary in outcome.diaries} == {"nothing left"}


def test_every_kind_of_step_is_taken(site: Site) -> None:
    taken = Counter[str]()
    kinds: tuple[tuple[TaskKind, int], ...] = (
        ("dialogue", 2), ("question", 5), ("demonstration", 2)
    )  # fmt: skip
    for kind, overlap in kinds:
        study = site.study(kind, 6, overlap=overlap)
        taken.update(one.kind for one in site.let_work(study, FIVE).receipts)
    assert set(taken) == {
        "message", "comparison", "description", "redteam", "finish", "qa_answer", "reset",
        "demonstration", "edit",
    }  # fmt: skip


def test_the_same_seed_makes_the_same_labels(tmp_path: Path) -> None:
    def labels(name: str, seed: int) -> set[tuple[str, str, str]]:
        with site_at(tmp_path / f"{name}.db") as site:
            study = site.study("ranking", 2, overlap=5)
            outcome = site.let_work(study, FIVE.model_copy(update={"seed": seed}))
            steady = {
                diary.pseudonym: diary.character.name
                for diary in outcome.diaries
                if diary.character.kind not in _PLACED
            }
            return {
                (steady[one["labeler"]], repr(one["context"]), _by_text(one))
                for one in site.records(study)
                if one["kind"] == "ranking" and one["labeler"] in steady
            }

    first, again = labels("first", 0), labels("again", 0)
    assert len(first) == 6
    assert first == again
    answers = {(context, answer) for _, context, answer in first}
    assert answers != {(context, answer) for _, context, answer in labels("other", 1)}


_PLACED = {"spammer", "biased"}
"""They like what stands first, and places are drawn by lot."""


def _by_text(record: dict[str, Any]) -> str:
    text = {one["id"]: one["text"] for one in record["candidates"]}
    return repr([sorted(text[name] for name in group) for group in record["answer"]["ranking"]])


def view_of(texts: tuple[str, ...], prompt: str = "What is the capital of Peru?") -> ViewBody:
    return ViewBody.model_validate(
        {
            "assignment_id": "a", "state": "open", "expires_at": 0.0, "now": 0.0,
            "task": {"kind": "vote", "prompt": [{"role": "user", "content": prompt}]},
            "candidates": [{"id": text, "text": text} for text in texts],
            "messages": [], "waits_for_models": False, "next_steps": ["vote"],
            "may_finish": False, "deadline": None,
            "categories": {}, "answered": [],
        }
    )  # fmt: skip


GOOD, BAD = "Lima is the capital of Peru.", "Go away now. What a stupid question."


def test_the_population_differs_by_type() -> None:
    dials = CrowdSettings(
        labelers=60, biased=0, guessers=0.25, spammers=0.25, speeders=0.25, pasters=0, abandoners=0
    )
    people = crowd(dials)
    assert Counter(one.kind for one in people) == {
        "guesser": 15, "spammer": 15, "speeder": 15, "careful": 15,
    }  # fmt: skip
    right = Counter[str]()
    seconds: dict[str, list[float]] = {}
    for one in people:
        for shown in ((GOOD, BAD), (BAD, GOOD)):
            due = reply(one, view_of(shown))
            assert due is not None
            right[one.kind] += due.answer["chosen"] == GOOD
            seconds.setdefault(one.kind, []).append(due.seconds)
    assert right["careful"] == 30  # of 30
    assert right["spammer"] == 15  # always the first
    assert right["guesser"] < 26
    assert right["speeder"] > right["guesser"]
    assert max(seconds["speeder"] + seconds["spammer"]) < min(seconds["careful"])


def test_a_choice_depends_on_what_is_shown_and_not_on_its_ids() -> None:
    careful = crowd(FIVE.model_copy(update={"labelers": 1}))[0]
    one, two = reply(careful, view_of((GOOD, BAD))), reply(careful, view_of((BAD, GOOD)))
    assert one is not None
    assert two is not None
    assert one.answer == two.answer == {"chosen": GOOD, "both_bad": False}


def test_who_walks_off_comes_back_late_and_nothing_breaks(site: Site) -> None:
    study = site.study("vote", 8, overlap=3, lease_minutes=0.2 / 60)
    dials = FIVE.model_copy(update={"spammers": 0, "pasters": 0, "abandoners": 0.8})
    outcome = site.let_work(study, dials, away=0.3)
    assert sum(diary.walked_off for diary in outcome.diaries) > 0
    check_kept(outcome, site.records(study))


def test_categories_are_shown_to_those_who_agree(site: Site) -> None:
    study = site.workshop.study("vote", overlap=5, categories={"violence": "Blows."})
    new = [
        one.model_copy(update={"categories": ("violence",)}) for one in playground_items("vote", 4)
    ]
    items.add_items(site.store, study.id, new, by=site.workshop.owner.id)
    outcome = site.let_work(study, FIVE.model_copy(update={"seed": 1}))
    assert not outcome.errors
    agreed = {d.character.name for d in outcome.diaries if d.character.consents("violence")}
    saw = {d.character.name for d in outcome.diaries if d.items + d.skipped}
    assert 0 < len(agreed) < 5
    assert saw == agreed


def test_the_application_finds_the_spammers_and_findings_say_so(site: Site) -> None:
    study = site.study("vote", 20, overlap=5)
    outcome = site.let_work(study, FIVE)
    with FeedbackClient(site.url, site.token) as owner:
        said = suspicions_of(owner, study.settings.name)
    assert said is not None
    found = findings(outcome, site.records(study), FIVE, suspicions=said, redraws=3)
    assert found["errors"] == found["lost"] == found["doubled"] == found["altered"] == 0
    (speed,) = (one for one in found["suspicions"] if one["suspicion"] == "speed")
    assert speed == {"suspicion": "speed", "deserved": 1, "raised": 1, "rightly": 1}
    (side,) = (one for one in found["suspicions"] if one["suspicion"] == "one side")
    assert side["rightly"] == 1
    agreed = {one["type"]: one["agreement_with_gold"] for one in found["by_type"]}
    assert agreed["spammer"] < 0.7 < agreed["paster"]
    assert found["coverage"]["of"] > 3
    assert 0 < found["coverage"]["redrawn_coverage"] <= 1
    assert {one["route"] for one in found["routes"]} >= {"POST /studies/{}/claims", "all"}
    json.dumps(found)


class Replying:
    """A client whose models fail so often."""

    def __init__(self, failures: int) -> None:
        self.asked, self.failures = 0, failures

    def replies(self, _assignment_id: str) -> Iterator[tuple[str, dict[str, object]]]:
        self.asked += 1
        yield "delta", {"place": 0, "text": "Li"}
        if self.asked <= self.failures:
            yield "failed", {"message": "away", "retry_seconds": 0.0}
        else:
            yield "done", {}


def test_replies_that_fail_are_asked_for_again() -> None:
    client = Replying(failures=1)
    assert wait_for_replies(typing.cast(FeedbackClient, client), "a")
    assert client.asked == 2


def test_replies_that_always_fail_are_given_up() -> None:
    client = Replying(failures=99)
    assert not wait_for_replies(typing.cast(FeedbackClient, client), "a")
    assert client.asked == MOST_FAILURES


def test_who_is_upset_by_one_dialogue_is_not_by_all_of_them() -> None:
    """All begin with the same empty page."""

    def begun(assignment_id: str) -> ViewBody:
        task = {"kind": "dialogue", "mode": "helpful", "opening": [], "theme": ""}
        return view_of(()).model_copy(update={"assignment_id": assignment_id, "task": task})

    careful = crowd(FIVE.model_copy(update={"labelers": 1}))[0]
    skipped = sum(careful.skips(fingerprint(begun(str(number)))) for number in range(1000))
    assert 5 < skipped < 40  # 20 on average


def test_on_postgresql(postgresql_url: str) -> None:  # noqa: F811
    with site_at(postgresql_url) as site:
        study = site.study("vote", 6, overlap=3)
        outcome = site.let_work(study, FIVE)
        check_kept(outcome, site.records(study))


def test_the_command_makes_a_study_and_reports(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    words = ["feedback", "simulate", "rehearsal", "--make", "vote", "--items", "8"]
    words += ["--labelers", "4", "--redraws", "2", "--server", site.url]
    assert run([*words, "--token", site.token, "--report", str(report), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["errors"] == 0
    assert told["labels"]["vote"] == told["items"] > 0
    assert json.loads(report.read_text())["coverage"]["votes"] <= told["items"]
    assert run([*words, "--token", site.token]) == 2
    assert "there is a study 'rehearsal' already" in capsys.readouterr().err


def test_labelers_compare_what_models_answer_live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dialogues at a server whose models stand behind an OpenAI-compatible endpoint."""
    report = tmp_path / "report.json"
    with Store(tmp_path / "feedback.db") as store, FakeEndpoint() as fake:
        fake.finish.set()
        models = LiveModels(LiveModel(name, fake.url) for name in ("sft", "ppo"))
        with serving(lambda: build_application(store, models=models)) as url:
            site = Site(store, url)
            words = ["feedback", "simulate", "talks", "--make", "dialogue", "--items", "3"]
            words += ["--overlap", "2", "--labelers", "3", "--server", url, "--token", site.token]
            assert run(words) == 2
            assert "name some that the server has with --snapshots" in capsys.readouterr().err
            words += ["--snapshots", "sft", "ppo", "--report", str(report)]
            assert run(words) == 0
            told = json.loads(report.read_text())
            records = site.records(studies.find_study(store, "talks"))
    assert told["errors"] == told["lost"] == told["doubled"] == 0
    compared = [one for one in records if one["kind"] == "comparison"]
    assert len(compared) == told["labels"]["comparison"] >= 4
    assert told["labels"]["message"] == len(compared)
    assert len(fake.requests) == 2 * len(compared), "two replies a turn"
    for one in compared:
        assert {each["snapshot"] for each in one["candidates"]} == {"sft", "ppo"}
        assert [each["text"] for each in one["candidates"]] == ["one two", "one two"]


def test_the_command_shows_how_far_it_is(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hark.runs.progress.SECONDS_BETWEEN_LINES", 0.0)
    study = site.study("vote", 3, overlap=2)
    words = ["feedback", "simulate", study.settings.name, "--server", site.url]
    words += ["--token", site.token, "--labelers", "2", "--redraws", "1"]
    assert run(words) == 0
    lines = capsys.readouterr().err.splitlines()
    shown = [line for line in lines if line.startswith("labelers of vote-study: ")]
    assert re.fullmatch(r"labelers of vote-study: 2/6 items  [\d.e+]+/s  \d+:\d\d left", shown[1])
    assert shown[-1].startswith("labelers of vote-study: 6/6 items")
    again = site.study("audit", 2)
    assert run([*words[:2], again.settings.name, *words[3:], "--json"]) == 0
    assert "labelers of" not in capsys.readouterr().err


def test_the_command_needs_an_owner(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["feedback", "simulate", "vote-study", "--server", site.url]
    assert run(words) == 2
    assert "give an owner's --token, or the --store" in capsys.readouterr().err
    study = site.study("vote", 2)
    studies.set_state(site.store, study.id, "paused", by=site.workshop.owner.id)
    place = str(tmp_path / "feedback.db")
    assert run([*words, "--store", place, "--labelers", "1"]) == 2
    assert "is paused; come back later" in capsys.readouterr().err
    with site.store.read() as connection:
        labels = [row.label for row in connection.execute(sign_in.tokens.select()).all()]
    assert [label for label in labels if label.startswith("simulate")] == []
