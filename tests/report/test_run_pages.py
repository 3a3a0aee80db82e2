import json

import pytest

from hark.data.records import ask
from hark.errors import RunError
from hark.evaluation.calibration import calibration
from hark.evaluation.intervals import exact
from hark.evaluation.policies import PolicyEvaluation
from hark.evaluation.samples import samples_of, write_samples
from hark.report.page import render
from hark.report.run_figures import MOST_POINTS, thin
from hark.report.run_pages import labels, newest_samples, report_for_runs, result_rows
from hark.report.run_record import RunRecord
from hark.runs.timing import step_record


def ppo_metrics(steps: int):
    return [
        {"step": n, "score": n**0.5, "kl": float(n), "entropy": 2.0, "odd_metric": n * 1.0}
        for n in range(1, steps + 1)
    ]


def test_ppo_runs_are_overlaid_with_reward_divergence_and_whatever_else_was_logged(make_run):
    plain = make_run("1-ppo", name="plain", metrics=ppo_metrics(20), results={"score": 4.5})
    mixed = make_run("2-ppo", name="ptx", metrics=ppo_metrics(10))
    report = report_for_runs([plain, mixed])
    assert [figure.name for figure in report.figures] == [
        "reward-and-divergence",
        "reward-against-divergence",
    ]
    assert [each.name for each in report.training_figures] == ["ppo-entropy", "ppo-odd_metric"]
    assert report.title == "plain and ptx"
    assert report.summary == (
        "plain: complete after 20 steps in 1 h 01 min.",
        "ptx: interrupted after 10 steps.",
    )
    assert report.figures[1].title == "Reward grows about linearly with √KL (R² 1.00)"
    assert [facts.title for facts in report.facts] == ["plain"]
    assert "plain, R² = 1.00" in render(report)


def test_training_and_held_out_loss_share_a_figure_and_null_values_are_left_out(make_run):
    metrics = [{"step": 0, "evaluation_loss": 5.0}, {"step": 1, "loss": 4.0, "learning_rate": 0.1}]
    metrics += [{"step": 2, "loss": None, "tokens": 100}, {"step": 2, "evaluation_loss": 3.0}]
    report = report_for_runs([make_run("1-sft", stage="sft", metrics=metrics, results={})])
    [figure] = report.training_figures
    assert figure.title == "Loss (sft)"
    assert "sft, held out" in figure.svg


def test_results_become_a_table_or_a_list(make_run, rows):
    measured = calibration([0.6, 0.8, 0.9], [1, 0, 1], bins=2)
    results = {
        "policies": [row.to_json() for row in rows],
        "baseline": "SFT",
        "calibration": measured.to_json(),
        "accuracy": 0.7125,
    }
    report = report_for_runs([make_run("1-evaluate", stage="evaluate", results=results)])
    assert report.policies == rows
    assert report.baseline == "SFT"
    assert [figure.name for figure in report.figures] == [
        "win-rates",
        "calibration",
        "language-loss",
    ]
    assert report.summary[0].startswith("PPO <b>$x_1$ is preferred to SFT on 90 %")
    assert report.summary[1].startswith("PPO <b>$x_1$ costs 0.40 nats")
    assert report.notes
    assert report.next_steps
    assert report.facts[0].rows == (("accuracy", "0.7125"),)


def test_results_are_listed_in_words():
    results = {
        "n": 12345, "accuracy": exact(0.5).to_json(), "interval": [0.25, -0.75], "gone": None,
        "parts": {"mean_words": 1.5}, "long": [1, 2, 3], "path": "x.jsonl", "flag": True,
        "loss": {"value": 3.0, "low": 2.5, "high": 3.5},
    }  # fmt: skip
    assert list(result_rows(results)) == [
        ("n", "12,345"),
        ("accuracy", "0.5 (exact)"),
        ("interval", "0.25 to −0.75"),
        ("gone", "undefined"),
        ("parts, mean words", "1.5"),
        ("path", "x.jsonl"),
        ("flag", "yes"),
        ("loss", "3 (2.5 to 3.5)"),
    ]


def test_runs_that_share_a_name_go_by_their_directories(make_run):
    paths = [make_run("1-ppo"), make_run("2-ppo"), make_run("3-sft", stage="sft")]
    assert labels([RunRecord.read(path) for path in paths]) == ["1-ppo", "2-ppo", "sft"]


def test_long_curves_are_averaged_down():
    curve = thin(list(range(3000)), [float(n % 2) for n in range(3000)])
    assert len(curve.x) == MOST_POINTS
    # Ten steps to a point: 0 … 9 average 4.5, and odd and even cancel.
    assert (curve.x[0], curve.y[0]) == (4.5, 0.5)


def test_the_newest_samples_are_shown(make_run):
    run = make_run("1-ppo")
    (run / "samples").mkdir()
    prompt = [{"role": "user", "content": "Hello"}]
    for step in (10, 20):
        record = {"prompt": prompt, "response": f"at {step}", "score": 1.5, "complete": step < 20}
        path = run / "samples" / f"step-{step:06d}.jsonl"
        path.write_text((json.dumps(record) + "\n") * 20, encoding="utf-8")
    samples = newest_samples(RunRecord.read(run), "ppo")
    assert len(samples) == 8
    assert (samples[0].response, samples[0].finish) == ("at 20", "length")
    assert samples[0].scores == {"score": 1.5}
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"step-000020\.jsonl:1: not a sample"):
        report_for_runs([run])


def test_a_comparison_shows_its_replies_side_by_side_and_best_of_n_as_a_star(make_run):
    prompts = [ask(str(number)) for number in range(30)]
    best = PolicyEvaluation(name="best of 4", divergence=exact(0.636), preference_score=exact(1.5))
    compare = make_run(
        "1-compare",
        stage="compare",
        results={"policies": [best.to_json()], "baseline": "sft"},
    )
    write_samples(
        compare / "data" / "samples.jsonl",
        samples_of("sft", prompts, ["x"] * 30) + samples_of("ppo", prompts, ["y"] * 30),
    )
    ppo = make_run("2-ppo", metrics=ppo_metrics(10))
    report = report_for_runs([compare, ppo], title="Mine")
    assert report.title == "Mine"
    assert [each.policy for each in report.samples] == ["sft", "ppo"] * 8
    assert "best of 4" in report.figures[1].svg


def test_calibration_is_found_among_the_details_of_an_evaluation(make_run):
    details = {"calibration": calibration([0.6, 0.8], [1, 0], bins=2).to_json()}
    run = make_run("1-evaluate", stage="evaluate", results={"n": 2, "details": details})
    report = report_for_runs([run])
    assert [figure.name for figure in report.figures] == ["calibration"]
    assert report.facts[0].rows == (("n", "2"),)


def test_what_is_no_run_is_refused(tmp_path, make_run):
    with pytest.raises(RunError, match="is not a run directory"):
        report_for_runs([tmp_path])
    with pytest.raises(RunError, match="nothing to report"):
        report_for_runs([])
    damaged = make_run("1-ppo")
    (damaged / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="damaged file"):
        report_for_runs([damaged])


def test_reports_need_no_torch():
    import subprocess
    import sys

    code = "import sys, hark.report.run_pages; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_where_time_goes_is_a_bar_for_each_phase_and_a_table_for_each_run(make_run):
    paths = []
    for number, phases in enumerate(
        ({"generate": 30.0, "update": 10.0}, {"generate": 20.0, "pretraining": 20.0}), start=1
    ):
        path = make_run(f"{number}-ppo", name=("plain", "ptx")[number - 1], metrics=ppo_metrics(3))
        record = step_record(
            phases | {"other": 0.0}, tokens=1234, useful_flops=4 * 10**11, peak_memory_bytes=2**30
        )
        (path / "timing.jsonl").write_text(json.dumps({"step": 1} | record) + "\n")
        paths.append(path)
    evaluated = make_run("3-evaluate", stage="evaluate")
    report = report_for_runs([*paths, evaluated])
    [figure] = report.time_figures
    assert figure.title == "Generate takes 50 to 75 % of the time (ppo)"
    assert figure.caption == (
        "plain: 40 s, 10 GFLOP/s of useful arithmetic; ptx: 40 s, 10 GFLOP/s of useful arithmetic."
    )
    assert [facts.title for facts in report.time_facts] == ["Time of plain", "Time of ptx"]
    assert report.time_facts[0].rows == (
        ("generate", "30 s (75.0 %)"),
        ("update", "10 s (25.0 %)"),
        ("other", "0 ms (0.0 %)"),
        ("all steps", "40 s"),
        ("useful arithmetic", "10 GFLOP/s"),
        ("tokens trained on", "123 a second"),
        ("peak memory", "1 GiB"),
    )
    page = render(report)
    assert "<h2>Where time goes</h2>" in page
    assert "pretraining" in figure.svg
    assert "<h2>Where time goes</h2>" not in render(report_for_runs([evaluated]))
