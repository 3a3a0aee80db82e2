"""Each study finds what was planted in its runs, and says so by its rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from hark.errors import DataError, RunError
from hark.evaluation.intervals import exact
from hark.loop.stages import STAGES
from hark.loop.studies import (
    ANALYSES,
    amounts,
    calibration,
    labelers,
    mixture,
    objectives,
    transfer,
    turns,
)
from hark.report.effects import Effect
from hark.report.run_record import RunRecord

MakeRun = Callable[..., RunRecord]


def verdicts(effects: list[Effect], directory: Path) -> list[str]:
    for effect in effects:
        assert effect.figure is None or (directory / effect.figure).stat().st_size > 1000
        assert effect.data == "playground"
    return [effect.verdict for effect in effects]


def test_the_mixture_is_told_from_one_sided_training(
    preference_run: MakeRun, tmp_path: Path
) -> None:
    kinds = ["playground/harmless.jsonl", "playground/helpful.jsonl"]

    def run(seed: int, share: float, harmless: float, helpful: float, **more: object) -> RunRecord:
        return preference_run(
            {"harmless-heldout": harmless + seed / 100, "helpful-heldout": helpful - seed / 100},
            seed=seed, shares=[share], data=kinds, **more,
        )  # fmt: skip

    runs = [
        run(seed, share, harmless, helpful)
        for seed in range(3)
        for share, harmless, helpful in ((0.0, 0.35, 0.7), (0.5, 0.65, 0.64), (1.0, 0.7, 0.5))
    ]
    runs += [
        run(seed, 0.5, 0.65, helpful, loss_weights=[weight, 1])
        for seed in range(3)
        for weight, helpful in ((1, 0.66), (10, 0.60 + seed / 100))
    ]
    effects = mixture.analyse(runs, tmp_path)
    assert verdicts(effects, tmp_path) == [
        "reproduced",  # 0.36, far below chance
        "cannot be seen",  # 0.49, and the interval reaches beyond 0.5
        "reproduced",
        "reproduced",
    ]
    assert effects[0].estimate.value == pytest.approx(0.36)
    assert effects[3].estimate.value == pytest.approx(0.05, abs=0.006)
    # A run with weights of 1 and 1 is the same model again, and no further seed.
    assert effects[2].seeds == effects[2].estimate.n == 3
    with pytest.raises(DataError, match="shares of two files"):
        mixture.analyse([preference_run({"x": 0.6})], tmp_path)


@pytest.mark.parametrize(("bases", "of_size"), [(True, "reproduced"), (False, "cannot be seen")])
def test_amounts_and_sizes_have_slopes_and_a_ceiling(
    preference_run: MakeRun, other_run: MakeRun, tmp_path: Path, bases: bool, of_size: str
) -> None:
    def accuracy(size: int, amount: int) -> float:
        return 0.6 + 0.02 * math.log(size / 1e5) + 0.03 * math.log(amount / 100)

    runs = [
        preference_run(
            {"heldout": accuracy(size, amount) + seed / 200}, seed=seed, comparisons=amount,
            parameters=size, model=f"sft-{bases and seed}",
        )
        for seed in range(3)
        for size in (100_000, 400_000)
        for amount in (100, 400, 1600)
    ]  # fmt: skip
    effects = amounts.analyse(runs, tmp_path)
    assert verdicts(effects, tmp_path) == ["reproduced", of_size]
    assert ("only 1 pretrained models" in effects[1].reason) == (of_size == "cannot be seen")
    assert effects[0].estimate.value == pytest.approx(0.03 * math.log(2), abs=0.004)
    assert effects[1].estimate.value == pytest.approx(0.02 * math.log(2), abs=0.004)
    world = [
        other_run("playground-comparisons", {"seed": seed}, {"overall_ceiling": 0.73})
        for seed in range(3)
    ]
    near = amounts.analyse([*runs, *world], tmp_path)[2]
    assert near.verdict == "reproduced"
    assert near.estimate.value == pytest.approx(0.73 - accuracy(400_000, 1600), abs=0.01)


def test_the_ceiling_is_approached_where_comparisons_are_most(
    preference_run: MakeRun, other_run: MakeRun, tmp_path: Path
) -> None:
    runs = [
        preference_run(
            {"heldout": accuracy + seed / 200}, seed=seed, comparisons=amount, parameters=size,
            dropped=seed % 2,
        )
        for seed in range(3)
        for size, amount, accuracy in (
            (100_000, 200, 0.55), (100_000, 9000, 0.72), (900_000, 200, 0.57),
        )
    ]  # fmt: skip
    runs += [
        other_run("playground-comparisons", {"seed": seed}, {"overall_ceiling": 0.73})
        for seed in range(3)
    ]
    near = amounts.analyse(runs, tmp_path)[-1]
    assert near.estimate.value == pytest.approx(0.005, abs=1e-6)
    assert near.seeds == 3


def test_calibration_by_error_and_by_good_pairs(preference_run: MakeRun, tmp_path: Path) -> None:
    runs = [preference_run({"heldout": 0.55}, seed=seed) for seed in range(3)]
    error, good = calibration.analyse(runs, tmp_path)
    assert error.estimate.value is not None
    assert error.estimate.value > 0.2  # gaps of up to 6, right in 55 %
    assert (error.figure, good.figure) == ("calibration.png", "both-good.png")


def test_transfer_compares_the_same_seeds_and_amounts(
    preference_run: MakeRun, tmp_path: Path
) -> None:
    runs = [
        preference_run(
            {"heldout": base + (gain if start else 0) + seed / 100}, seed=seed, comparisons=amount,
            model=start or "sft",
        )
        for seed in range(3)
        for amount, base, gain in ((200, 0.55, 0.08 + seed / 200), (5000, 0.72, 0.01))
        for start in ("", "pretrained")
    ]  # fmt: skip
    with pytest.raises(DataError, match="these start from: no pretraining"):
        transfer.analyse(runs, tmp_path)


def test_a_model_is_found_beside_the_run_that_started_from_it(
    preference_run: MakeRun, imitator: Callable[[str], str]
) -> None:
    """Paths are relative to where the command was given, which need not be here."""
    made = Path(imitator("sft"))
    run = preference_run({"heldout": 0.6}, model=f"runs/of-another-place/{made.name}")
    run.manifest.inputs[f"runs/of-another-place/{made.name}/model"] = "a hash"
    found = run.made(run.settings["model"])
    assert found is not None
    assert found.path == made
    with pytest.raises(RunError, match="was made from 'runs/gone', which is not there"):
        gone = preference_run({"heldout": 0.6}, model="runs/gone")
        gone.manifest.inputs["runs/gone/model"] = "a hash"
        gone.made("runs/gone")
    assert preference_run({"heldout": 0.6}, model="org/model").made("org/model") is None


def test_transfer_finds_the_gain_and_that_it_shrinks(
    preference_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "start_of", lambda each: each.settings["model"])
    runs = [
        preference_run(
            {"heldout": base + (gain if start == transfer.BINARISED else 0.0) + seed / 100},
            seed=seed, comparisons=amount, model=start,
        )
        for seed in range(3)
        for amount, base, gain in ((200, 0.55, 0.08 + seed / 200), (5000, 0.72, 0.01))
        for start in (transfer.NONE, transfer.RANKED, transfer.BINARISED)
    ]  # fmt: skip
    effects = transfer.analyse(runs, tmp_path)
    found = {effect.name: effect for effect in effects}
    assert found["Pretraining on binarised votes helps at 200 comparisons"].verdict == "reproduced"
    assert (
        found["What pretraining on binarised votes gains shrinks with more comparisons"].verdict
        == "reproduced"
    )
    assert found["Pretraining on ranked votes helps at 200 comparisons"].verdict == "cannot be seen"
    assert found["Binarised pretraining carries over better than ranked"].verdict == "reproduced"
    # A binarised file that is not named so would be taken for a second ranked one.
    twice = [run for run in runs if run.settings["model"] != transfer.BINARISED]
    twice += [run for run in runs if run.settings["model"] == transfer.RANKED]
    with pytest.raises(DataError, match="start from 'ranked' have the same seed.*in its name"):
        transfer.analyse(twice, tmp_path)


@pytest.fixture
def objective_runs(
    preference_run: MakeRun, other_run: MakeRun, imitator: Callable[[str], str]
) -> Callable[..., list[RunRecord]]:
    """Make the runs of both tasks at one size: accuracy modelled and imitated, and its start."""

    def make(
        ranked: tuple[float, float], binary: tuple[float, float], *, parameters: int = 500_000,
        model: str = "sft", step: float = 1 / 50,
    ) -> list[RunRecord]:  # fmt: skip
        runs = []
        for seed in range(3):
            start = model.format(seed=seed)
            learned = imitator(start)
            for task, (modelled, imitated) in (("overall", ranked), ("binary", binary)):
                found = modelled + seed * (step if task == "overall" else step / 2)
                runs.append(
                    preference_run(
                        {f"{task}-heldout.jsonl": found}, seed=seed, parameters=parameters,
                        data=[f"playground/{task}.jsonl"], model=start,
                    )
                )  # fmt: skip
                runs.append(
                    other_run(
                        "evaluate",
                        {"seed": seed, "data": [f"{task}-heldout.jsonl"], "model": learned},
                        {"accuracy": 0.5, "accuracy_per_token": imitated,
                         "accuracy_mutual_information": 0.45},
                    )
                )  # fmt: skip
        return runs

    return make


def test_objectives_need_both_ways_of_learning_both_tasks(
    objective_runs: Callable[..., list[RunRecord]], tmp_path: Path
) -> None:
    runs = objective_runs((0.78, 0.6), (0.9, 0.89))
    effects = objectives.analyse(runs, tmp_path)
    assert verdicts(effects, tmp_path) == ["reproduced", "reproduced", "reproduced"]
    assert effects[0].estimate.value == pytest.approx(0.2, abs=0.01)
    with pytest.raises(DataError, match="the binary task needs runs"):
        objectives.analyse([run for run in runs if not is_binary_imitation(run)], tmp_path)


def test_objectives_of_a_ranked_task_alone(
    objective_runs: Callable[..., list[RunRecord]], tmp_path: Path
) -> None:
    runs = objective_runs((0.78, 0.6), (0.9, 0.89))
    ranked = [run for run in runs if not Path(run.settings["data"][0]).name.startswith("binary")]
    (effect,) = objectives.analyse(ranked, tmp_path)
    assert verdicts([effect], tmp_path) == ["reproduced"]
    assert effect.estimate.value == pytest.approx(0.2, abs=0.01)


def is_binary_imitation(run: RunRecord) -> bool:
    binary = Path(run.settings["data"][0]).name.startswith("binary")
    return binary and run.manifest.stage == "evaluate"


@pytest.mark.parametrize(
    ("start", "grows"), [("base-{seed}", "reproduced"), ("base", "cannot be seen")]
)
def test_the_lead_over_sizes_is_least_at_the_smallest_and_grows(
    objective_runs: Callable[..., list[RunRecord]], tmp_path: Path, start: str, grows: str
) -> None:
    # Leads of 0.18, 0.12 and 0.24, and for each seed 0.01 more; 0.02 at the largest.
    middle = objective_runs((0.78, 0.6), (0.8, 0.79), model=f"middle {start}", step=0.01)
    small = objective_runs(
        (0.7, 0.58), (0.7, 0.735), parameters=250_000, model=f"small {start}", step=0.01
    )
    large = objective_runs(
        (0.86, 0.62), (0.82, 0.82), parameters=1_000_000, model=f"large {start}", step=0.02
    )
    effects = objectives.analyse([*middle, *large, *small], tmp_path)
    assert verdicts(effects[:3], tmp_path) == ["reproduced"] * 3
    assert effects[0].estimate.value == pytest.approx(0.19), "of the size named first"
    assert "500,000 parameters" in effects[0].setting
    least, slope, alike = effects[3:]
    assert verdicts([least, slope, alike], tmp_path) == ["reproduced", grows, "reproduced"]
    assert least.estimate.value == pytest.approx(0.13)
    # Size is doubled twice: (0.24 − 0.12) / 2, and (0.02 − 0.01) / 2 more for each seed.
    assert slope.estimate.value == pytest.approx(0.065)
    assert (slope.estimate.low is None) == (grows == "cannot be seen")
    assert alike.estimate.value == pytest.approx(-0.03), "at the smallest, the other way round"
    assert "250,000 parameters +0.130" in least.reason
    assert all("250,000 to 1,000,000 parameters" in each.setting for each in effects[3:])


def test_imitation_that_started_elsewhere_belongs_to_no_size(
    objective_runs: Callable[..., list[RunRecord]], other_run: MakeRun,
    imitator: Callable[[str], str], tmp_path: Path,
) -> None:  # fmt: skip
    stray = other_run(
        "evaluate", {"seed": 0, "data": ["overall-heldout.jsonl"], "model": imitator("elsewhere")},
        {"accuracy": 0.5, "accuracy_per_token": 0.5, "accuracy_mutual_information": 0.5},
    )  # fmt: skip
    with pytest.raises(DataError, match="train both from the same model"):
        objectives.analyse([*objective_runs((0.7, 0.6), (0.7, 0.7)), stray], tmp_path)


def test_seeds_are_matched_by_number_not_by_order(
    preference_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "start_of", lambda each: each.settings["model"])

    def run(seed: int, start: str, amount: int, gain: float) -> RunRecord:
        return preference_run(
            {"heldout": 0.6 + gain}, seed=seed, comparisons=amount, model=start
        )  # fmt: skip

    gains = {0: 0.05, 1: 0.1, 2: 0.2}
    runs = [run(seed, transfer.RANKED, 200, gain) for seed, gain in gains.items()]
    # The gain shrinks to nought in two seeds; the first was never trained at the larger amount.
    runs += [run(seed, transfer.RANKED, 5000, 0.0) for seed in (2, 1)]
    runs += [run(seed, transfer.NONE, amount, 0.0) for seed in gains for amount in (200, 5000)]
    closing = transfer.analyse(runs, tmp_path)[1]
    assert closing.estimate.value == pytest.approx(0.15)
    assert closing.seeds == 2


def test_labelers_must_have_been_left_out(preference_run: MakeRun, tmp_path: Path) -> None:
    run = preference_run({"heldout": 0.6})
    with pytest.raises(DataError, match="no run left out labelers"):
        labelers.analyse([run], tmp_path)
    folds = []
    for fold in range(5):
        each = preference_run({"heldout": 0.7})
        values = each.results["details"]["estimate"]
        each.results["details"]["by_labelers"] = {
            "held out": {**values, "value": 0.69 + fold / 90},
            "learned from": {**values, "value": 0.70 + fold / 100},
        }
        folds.append(each)
    (effect,) = labelers.analyse(folds, tmp_path)
    assert effect.estimate.value == pytest.approx(-0.01, abs=0.005)
    assert effect.verdict == "reproduced"
    assert effect.seeds == 1, "folds are no seeds"
    assert "5 folds" in effect.setting


def test_every_analysis_refuses_runs_of_other_stages(other_run: MakeRun, tmp_path: Path) -> None:
    for name, analysis in ANALYSES.items():
        assert set(analysis.stages) <= STAGES.keys(), name
        with pytest.raises(RunError, match="is a run of hark sft; this analysis reads runs of"):
            analysis([other_run("sft", {}, {"loss": 1.0})], tmp_path)
        with pytest.raises(RunError, match="has no results"):
            analysis([other_run(analysis.stages[0], {}, {})], tmp_path)
    for name, stage in (("amounts", "playground-comparisons"), ("objectives", "evaluate")):
        with pytest.raises(DataError, match="none of the 1 runs is of hark preference"):
            ANALYSES[name]([other_run(stage, {}, {"loss": 1.0})], tmp_path)


def test_first_turns_are_held_against_the_second_and_third(
    preference_run: MakeRun, tmp_path: Path
) -> None:
    runs = [preference_run({"heldout": 0.6}, seed=seed) for seed in range(3)]
    (effect,) = turns.analyse(runs, tmp_path)
    assert effect.verdict == "cannot be seen", "all dialogues have one turn"
    for seed, run in enumerate(runs):
        accuracies = {1: 0.7 + seed / 100, 2: 0.66, 3: 0.62, 4: 0.9}
        run.results["details"]["by_turn"] = {
            str(turn): exact(value).to_json() for turn, value in accuracies.items()
        }
    (effect,) = turns.analyse(runs, tmp_path)
    assert effect.estimate.value == pytest.approx(0.71 - 0.64)
    assert verdicts([effect], tmp_path) == ["reproduced"]
    assert "turn 4: 0.900" in effect.reason
