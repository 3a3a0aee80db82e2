"""The demo's recipe holds, and its studies can be labelled."""

from __future__ import annotations

from pathlib import Path

from hark.feedback import invites, items, studies
from hark.feedback.store import Store
from hark.loop import demo
from hark.loop.plan import Request, plan_recipe
from hark.loop.recipe import load_recipe


def test_every_setting_of_the_recipe_holds() -> None:
    plan = plan_recipe(load_recipe(str(demo.RECIPE)), Request(dry_run=True))
    assert [stage.name for stage in plan.stages] == ["world", "base", *demo.TRAINED]


def test_the_studies_are_made_once_and_follow_the_models(tmp_path: Path) -> None:
    with Store(tmp_path / "feedback.db") as store:
        first = demo.prepare(store, ["early", "late"])
        assert first.owner is not None
        invites.accept(store, first.owner, "ada", "a long password")
        again = demo.prepare(store, ["sft", "ppo"])
        assert again.owner is None, "an owner can sign in"
        assert list(again.labelers) == ["demo-dialogue", "demo-ranking", "demo-vote"]
        counts = {}
        for name, secret in again.labelers.items():
            study = studies.find_study(store, name)
            assert study.state == "open"
            assert study.settings.snapshots == ("sft", "ppo")
            assert invites.look_at(store, secret).study_id == study.id
            counts[name] = len(items.to_draw(store, study.id))
        waiting = {"demo-dialogue": 0, "demo-ranking": demo.RANKINGS, "demo-vote": demo.VOTES}
        assert counts == waiting


def test_training_gives_the_models_of_the_two_stages(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def run(command: list[str]) -> dict[str, object]:
        asked.append(command)
        return {"stages": {name: {"run": f"runs/{name}"} for name in ("base", "early", "late")}}

    assert demo.train(run, tmp_path) == {"early": "runs/early", "late": "runs/late"}  # type: ignore[arg-type]
    assert asked == [["run", str(demo.RECIPE), "--output", str(tmp_path), "--json"]]
