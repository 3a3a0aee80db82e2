"""A tournament: the same replies before every judge, votes that can be read again, and people's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hark.cli.main import run
from hark.data.formats import read_comparisons, write_demonstrations, write_prompts
from hark.data.records import Demonstration, Prompt
from hark.evaluation.samples import read_samples
from hark.feedback.item_files import read_items
from hark.models.checkpoint import save_model
from hark.models.language_model import new_language_model
from hark.models.scalar_head import new_scalar_model
from hark.models.tokenizer import train_tokenizer
from hark.playground.authors import prompts
from hark.playground.demonstrations import demonstrations

WORDS = "a small dog saw the big cat near an old house and ran home to sleep all day long"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Requests of the playground; one writer answers them, one says the same to all."""
    directory = tmp_path_factory.mktemp("world")
    written = demonstrations(24, 0, split="validation")
    write_demonstrations(directory / "human.jsonl", written)
    dull = [Demonstration(prompt=one.prompt, response="Qwertz qwertz.") for one in written]
    write_demonstrations(directory / "dull.jsonl", dull)
    others = prompts(3, 0, split="evaluation")
    write_prompts(directory / "prompts.jsonl", [Prompt(prompt=one.prompt) for one in written])
    write_prompts(directory / "others.jsonl", others)
    tokenizer = train_tokenizer([WORDS] * 20, vocabulary_size=280)
    model = new_language_model(
        "0.5m", vocabulary_size=len(tokenizer), context_length=512, seed=0, pad_token_id=0,
        eos_token_id=1,
    )  # fmt: skip
    save_model(directory / "policy", model, tokenizer)
    save_model(directory / "preference", new_scalar_model(model), tokenizer)
    return directory


def settings(world: Path, **changes: Any) -> dict[str, Any]:
    return {
        "policies": {},
        "writers": {name: [str(world / f"{name}.jsonl")] for name in ("human", "dull")},
        "data": [str(world / "prompts.jsonl")],
        "primary": {"model": "human", "against": "dull"},
        "device": "cpu",
    } | changes


def tournament(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, given: dict[str, Any], *, fails: bool = False
) -> Any:
    config = tmp_path / "tournament.yaml"
    config.write_text(yaml.safe_dump(given), encoding="utf-8")
    status = run(
        ["tournament", "--config", str(config), "--output", str(tmp_path / "runs"), "--json"]
    )
    told = capfd.readouterr()
    assert status == (2 if fails else 0), told.err
    return told.err if fails else json.loads(told.out.splitlines()[-1])


def test_writers_are_judged_and_their_votes_rated_again_give_the_same(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = tournament(capfd, tmp_path, settings(world))
    crowd, gold = result["judges"]
    assert (crowd["judge"], gold["judge"]) == ("crowd", "gold")
    assert crowd["labelers"] > 2
    assert gold["primary"]["estimate"]["value"] > 0.8
    assert gold["primary"]["finding"].startswith("human is preferred to dull")
    path = Path(result["run"]) / "data"
    votes = read_comparisons(path / "votes-crowd.jsonl")
    shown = [(one.prompt, one.responses) for one in votes]
    assert shown == [
        (one.prompt, one.responses) for one in read_comparisons(path / "votes-gold.jsonl")
    ]
    assert {one.models for one in votes} == {("human", "dull"), ("dull", "human")}
    again = ["rate", "--data", str(path / "votes-crowd.jsonl"), "--output", str(tmp_path), "--json"]
    assert run([*again, "--clusters", "labeler and prompt"]) == 0
    rated = json.loads(capfd.readouterr().out.splitlines()[-1])["judges"][0]
    assert rated["ratings"] == crowd["ratings"]


def test_people_can_vote_on_the_same_replies(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = tournament(capfd, tmp_path, settings(world))
    path = Path(result["run"]) / "data"
    items = read_items(path / "items.jsonl")
    assert len(items) == len(read_comparisons(path / "votes-gold.jsonl"))
    people = settings(world, judges={}, votes={"people": [str(path / "votes-crowd.jsonl")]})
    again = tournament(capfd, tmp_path, people)
    assert [one["judge"] for one in again["judges"]] == ["people"]
    assert again["judges"][0]["ratings"] == result["judges"][0]["ratings"]


def test_a_policy_and_a_preference_model_take_part(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = {"model": str(world / "policy")}
    given = settings(
        world,
        policies={"policy": policy, "best of 2": policy | {"best_of": 2}},
        preference_models={"PM": str(world / "preference")},
        sampling={"max_response_tokens": 6},
        anchor="policy",
        limit=6,
    )
    result = tournament(capfd, tmp_path, given)
    assert [one["judge"] for one in result["judges"]] == ["crowd", "gold", "PM"]
    assert result["prompts"] == 6
    [predicted] = result["predictions"]
    by_name = {one["model"]: one for one in predicted["ratings"]}
    assert set(by_name) == {"policy", "best of 2", "human", "dull"}
    assert by_name["policy"]["from_gap"]["value"] == 1000
    samples = read_samples(Path(result["run"]) / "data" / "samples.jsonl")
    scores = {name: [one.scores["PM"] for one in samples if one.policy == name] for name in by_name}
    assert min(map(len, scores.values())) == 6
    gap = (sum(scores["human"]) - sum(scores["policy"])) / 6
    assert by_name["human"]["score"]["value"] == pytest.approx(gap)
    assert by_name["human"]["from_gap"]["value"] == pytest.approx(1000 + 173.7178 * gap, rel=1e-5)
    promised = result["over_estimates"]["PM"]["crowd"]["human"]["from_gap"]["value"]
    measured = {one["model"]: one["elo"]["value"] for one in result["judges"][0]["ratings"]}
    assert set(result["over_estimates"]["PM"]) == {"crowd", "gold", "PM"}
    assert promised == pytest.approx(by_name["human"]["from_gap"]["value"] - measured["human"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"anchor": "humam"}, "anchor 'humam' is no policy or writer (did you mean 'human'?)"),
        ({"judges": {}}, "no judge is named"),
        ({"judges": {"a/b": "gold"}}, "judge 'a/b' names a file"),
        ({"votes": {"gold": ["x.jsonl"]}}, "two judges have the same name"),
        ({"judges": {"gold": "gold"}, "population": {"labelers": 3}}, "population would be"),
        ({"primary": {"model": "dull", "against": "dull"}}, "cannot be compared with itself"),
        ({"policies": {"x": {"model": "m", "best_of": 2}}}, "needs a preference model"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    world: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    said: str,
) -> None:
    assert said in tournament(capfd, tmp_path, settings(world, **changes), fails=True)


def test_prompts_that_no_writer_has_answered_are_refused(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = settings(world, data=[str(world / "others.jsonl")])
    assert "is answered by dull, human" in tournament(capfd, tmp_path, given, fails=True)
