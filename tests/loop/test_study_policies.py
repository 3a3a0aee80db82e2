"""What several runs say together of policies, from records with planted outcomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hark.errors import RunError
from hark.evaluation.best_of import best_of_curve
from hark.evaluation.intervals import exact
from hark.evaluation.policies import PolicyEvaluation
from hark.loop.studies import distillation, divergence, robustness, skill, tax
from hark.report.effects import Effect
from hark.report.run_record import RunRecord
from hark.runs.manifest import Manifest


def run(
    path: Path,
    stage: str,
    *,
    seed: int,
    metrics: list[dict[str, Any]] | None = None,
    results: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> RunRecord:
    """A complete run with these records."""
    directory = path / f"{stage}-{seed}"
    directory.mkdir(exist_ok=True)
    usual = {"data": ["playground/x.jsonl"], "preference_model": ["pm"], "classes": 50}
    effective = usual | (settings or {})
    (directory / "config.json").write_text(json.dumps({"effective": effective}))
    manifest = Manifest(
        stage=stage, name="", status="complete", command=("hark",), commit=None, dirty=False,
        versions={}, device="cpu", dtype="float32", seed=seed, parents=(), inputs={},
        fingerprint="", started="2026-01-01T00:00:00", finished=None, message=None,
    )  # fmt: skip
    return RunRecord(
        path=directory, manifest=manifest, metrics=tuple(metrics or ()), results=results or {}
    )


def verdicts(effects: list[Effect], path: Path) -> list[str]:
    for effect in effects:
        assert (path / str(effect.figure)).stat().st_size > 0
        assert Effect.from_json(effect.to_json()) == effect
    return [effect.verdict for effect in effects]


def training(seed: int, law: str, *, target: float | None = None, held: float = 0.0) -> Any:
    draw = np.random.default_rng(seed)
    kl = (
        np.linspace(0.1, 20, 60) if target is None else np.full(60, held) + draw.normal(size=60) / 9
    )
    score = (np.sqrt(kl) if law == "root" else 0.2 * kl) + draw.normal(scale=0.1, size=60)
    metrics = [
        {"step": step + 1, "kl": float(k), "score": float(s)}
        for step, (k, s) in enumerate(zip(kl, score, strict=True))
    ]
    return {"seed": seed, "metrics": metrics, "settings": {"kl_target": target}}


@pytest.mark.parametrize(
    ("law", "expected"), [("root", ["reproduced"] * 2), ("line", ["not reproduced", "reproduced"])]
)
def test_the_law_is_told_from_a_line(tmp_path: Path, law: str, expected: list[str]) -> None:
    runs = [run(tmp_path, "ppo", **training(seed, law)) for seed in range(3)]
    assert verdicts(divergence.analyse(runs, tmp_path), tmp_path) == expected


@pytest.mark.parametrize(
    ("held", "expected"), [(6.2, "reproduced"), (9.0, "not reproduced"), (7.2, "cannot be seen")]
)
def test_the_controller_is_judged_by_the_divergence_it_ends_at(
    tmp_path: Path, held: float, expected: str
) -> None:
    runs = [
        run(tmp_path, "ppo", **training(seed, "root", target=6.0, held=held + (seed - 1) * 0.2))
        for seed in range(3)
    ]
    (effect,) = divergence.analyse(runs, tmp_path)
    assert effect.estimate.value == pytest.approx(held / 6, abs=0.02)
    assert verdicts([effect], tmp_path) == [expected]


def test_the_best_of_many_is_better_and_gains_less_and_less(tmp_path: Path) -> None:
    runs = []
    for seed in range(3):
        scores = np.random.default_rng(seed).normal(size=(200, 64))
        curve = best_of_curve(
            scores, np.minimum(scores, 1.5), [1, 2, 4, 8, 16, 32, 64], prompts=range(200)
        )
        results = {"curve": [point.to_json() for point in curve]}
        runs.append(run(tmp_path, "best-of", seed=seed, results=results))
    effects = divergence.analyse(runs, tmp_path)
    assert verdicts(effects, tmp_path) == ["reproduced"] * 2
    assert "lies wholly below 0" in effects[1].reason
    # √(ln 4 − 3/4) = 0.798; √(ln 64 − 63/64) − √(ln 16 − 15/16) = 1.782 − 1.355.
    assert "1 to 4 √KL grows by 0.80, from 16 to 64 by 0.43" in effects[1].reason


def over_optimised(seed: int, *, parts: float) -> list[dict[str, Any]]:
    """Train rises for ever, test stops rising, gold turns; `parts` is by how much."""
    draw = np.random.default_rng(seed)
    records: list[dict[str, Any]] = []
    for step in range(0, 41, 4):
        done = step / 40
        records.append({"step": step + 1, "kl": 9 * done, "score": 0.0})
        records.append(
            {"step": step, "evaluation_score": 5.0 + 2 * done + draw.normal() / 99,
             "judge_score": -3.0 + 2 * done - parts * done**2 + draw.normal() / 99,
             "judge_score_2": 0.4 + 0.3 * done - parts * 0.4 * done**2 + draw.normal() / 99}
        )  # fmt: skip
    return records


def test_how_many_comparisons_the_optimised_model_had_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [
        run(tmp_path, "ppo", seed=seed, metrics=over_optimised(seed, parts=1.5),
            settings={"batch_episodes": 8})
        for seed in range(3)
    ]  # fmt: skip
    trained = run(tmp_path, "preference", seed=7, results={"comparisons": 431})
    monkeypatch.setattr(RunRecord, "made", lambda record, model: trained)
    assert "of another part, 431 each; seeds vary" in robustness.analyse(runs, tmp_path)[0].setting


@pytest.mark.parametrize(("parts", "expected"), [(1.5, "reproduced"), (-1.5, "not reproduced")])
def test_scores_are_counted_from_the_start_and_their_gap_at_the_end(
    tmp_path: Path, parts: float, expected: str
) -> None:
    runs = [
        run(tmp_path, "ppo", seed=seed, metrics=over_optimised(seed, parts=parts),
            settings={"batch_episodes": 100})
        for seed in range(3)
    ]  # fmt: skip
    effects = robustness.analyse(runs, tmp_path)
    assert verdicts(effects, tmp_path) == [expected] * 3
    found = robustness.trajectory(runs[0])
    assert found.gap[0] == 0.0, "preference models have no common zero"
    assert found.episodes[-1] == 4000
    assert found.divergence[0] < found.divergence[-1]


def test_a_training_without_a_judge_is_refused(tmp_path: Path) -> None:
    metrics = [{"step": step, "evaluation_score": 1.0, "kl": 1.0} for step in range(9)]
    with pytest.raises(RunError, match="9 evaluations, 0 of them with a judge"):
        robustness.analyse([run(tmp_path, "ppo", seed=0, metrics=metrics)], tmp_path)


def row(name: str, loss: float, right: float) -> dict[str, Any]:
    return PolicyEvaluation(
        name=name, language_loss=exact(loss), multiple_choice=exact(right)
    ).to_json()


def test_the_tax_is_each_policys_against_the_one_it_came_from(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, "compare", seed=seed, results={"policies": [
            row("base", 1.0, 0.5), row("distilled", 1.01 + seed / 999, 0.5),
            row("SFT", 1.2, 0.5), row("PPO", 1.5 + seed / 99, 0.4 - seed / 99),
            row("PPO-ptx", 1.25 + seed / 50, 0.5),
        ]})
        for seed in range(3)
    ]  # fmt: skip
    effects = tax.analyse(runs, tmp_path)
    assert verdicts(effects, tmp_path) == ["reproduced"] * 4
    assert effects[0].estimate.value == pytest.approx(0.3 + 1 / 99)
    assert effects[1].measured == "nats a token, PPO-ptx less PPO"
    assert effects[1].estimate.value == pytest.approx(-0.25 + 1 / 50 - 1 / 99)


def graded(name: str, grade: float) -> dict[str, Any]:
    return PolicyEvaluation(
        name=name, helpfulness=exact(grade - 0.1), harmlessness=exact(grade + 0.1)
    ).to_json()


def compared(tmp_path: Path, file: str, seed: int, gain: float) -> RunRecord:
    """A run of compare on a file; its gain rises by 0.001 a seed."""
    policies = [graded("without the skill", 0.5),
                graded("with the skill", 0.5 + gain + seed / 1000)]  # fmt: skip
    directory = tmp_path / file
    directory.mkdir(exist_ok=True)
    return run(directory, "compare", seed=seed, results={"policies": policies},
               settings={"data": [f"world/{file}.jsonl"]})  # fmt: skip


def test_each_skill_is_judged_on_its_own_prompts_and_on_the_others(tmp_path: Path) -> None:
    # Summaries cost 0.05 elsewhere, more than counts as none.
    planted = {"evaluation-prompts-code": 0.2, "evaluation-prompts-other": 0.0,
               "prompts-shorter": 0.1, "prompts-not-shorter": -0.05}  # fmt: skip
    runs = [compared(tmp_path, file, seed, gain)
            for file, gain in planted.items() for seed in range(3)]  # fmt: skip
    effects = skill.analyse(runs, tmp_path)
    assert verdicts(effects, tmp_path) == ["reproduced"] * 3 + ["not reproduced"]
    assert [effect.name for effect in effects] == [
        "A skill mixed into RL is learnt: code",
        "Mixing the skill in costs nothing elsewhere: code",
        "A skill mixed into RL is learnt: summaries",
        "Mixing the skill in costs nothing elsewhere: summaries",
    ]
    values = [effect.estimate.value for effect in effects]
    assert values == pytest.approx([gain + 0.001 for gain in planted.values()])
    assert {effect.seeds for effect in effects} == {3}
    assert len({effect.figure for effect in effects}) == 2
    assert skill.analyse(runs[:6], tmp_path) == effects[:2], "one skill alone is the same"
    runs[0].results["policies"].pop()
    with pytest.raises(RunError, match="needs policies 'with the skill'"):
        skill.analyse(runs, tmp_path)


@pytest.mark.parametrize(
    "files", [["evaluation-prompts"], ["prompts-code", "prompts-shorter"], ["prompts-story"]]
)
def test_prompts_of_no_skill_or_of_several_are_refused(tmp_path: Path, files: list[str]) -> None:
    settings = {"data": [f"world/{name}.jsonl" for name in files]}
    mixed = run(tmp_path, "compare", seed=0, settings=settings)
    with pytest.raises(RunError, match="not the prompts of one skill"):
        skill.analyse([mixed], tmp_path)


@pytest.mark.parametrize(("closed", "expected"), [(0.8, "reproduced"), (0.5, "not reproduced")])
def test_distillation_is_judged_by_the_share_closed(
    tmp_path: Path, closed: float, expected: str
) -> None:
    runs = [
        run(tmp_path, "distill", seed=seed,
            metrics=[{"step": 0, "evaluation_loss": 0.1}, {"step": 9, "evaluation_loss": 0.02}],
            results={"gap_closed": closed + seed / 99, "gap_before": 0.1, "context_tokens": 9,
                     "text_tokens": 10, "answer_tokens": 10},
            settings={"data": ["playground/texts.jsonl"]})
        for seed in range(3)
    ]  # fmt: skip
    assert verdicts(distillation.analyse(runs, tmp_path), tmp_path) == [expected]
    del runs[1].results["gap_closed"]
    with pytest.raises(RunError, match="measured no gap: distil with evaluation_data"):
        distillation.analyse(runs, tmp_path)


@pytest.mark.parametrize(
    ("gain", "expected"),
    [(0.05, "reproduced"), (-0.05, "not reproduced"), (0.0, "cannot be seen")],
)
def test_training_from_the_distilled_model_is_judged_by_its_gold_grade(
    tmp_path: Path, gain: float, expected: str
) -> None:
    def row(name: str, grade: float) -> dict[str, Any]:
        return PolicyEvaluation(
            name=name, helpfulness=exact(grade - 0.3), harmlessness=exact(grade + 0.3)
        ).to_json()

    distilled = run(
        tmp_path, "distill", seed=0, metrics=[{"step": 0, "evaluation_loss": 0.1}],
        results={"gap_closed": 0.8, "gap_before": 0.1, "context_tokens": 9, "text_tokens": 10,
                 "answer_tokens": 10},
        settings={"data": ["playground/texts.jsonl"]},
    )  # fmt: skip
    compared = [
        run(
            tmp_path, "compare", seed=seed,
            results={"policies": [row("distilled", 0.4),
                                  row("PPO from distilled", 0.4 + gain + (seed - 1) * 0.01)]},
            settings={"data": ["playground/prompts.jsonl"]},
        )
        for seed in range(3)
    ]  # fmt: skip
    effects = distillation.analyse([distilled, *compared], tmp_path)
    assert verdicts(effects, tmp_path)[1] == expected
    assert effects[1].estimate.value == pytest.approx(gain)
    with pytest.raises(RunError, match="no gold grades of policies 'distilled' and"):
        distillation.analyse(
            [
                distilled,
                run(
                    tmp_path,
                    "compare",
                    seed=9,
                    results={"policies": [row("distilled", 0.4)]},
                    settings={"data": ["p.jsonl"]},
                ),
            ],
            tmp_path,
        )
    with pytest.raises(RunError, match="none of the runs is of hark distill"):
        distillation.analyse(compared, tmp_path)
