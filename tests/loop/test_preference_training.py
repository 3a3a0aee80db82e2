"""`hark preference` measures what it leaves, and warns where predictions do not come true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hark.cli.main import run
from hark.data.formats import write_comparisons
from hark.data.records import Comparison, ask
from hark.evaluation.calibration import gap_calibration
from hark.loop.preference_training import calibration_warnings
from hark.models.checkpoint import save_model
from hark.models.language_model import new_language_model
from hark.models.tokenizer import train_tokenizer
from hark.report.run_pages import report_for_runs

WORDS = "a small dog saw the big cat near an old house and ran home to sleep all day long"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([WORDS] * 20, vocabulary_size=280)
    model = new_language_model(
        "0.2m", vocabulary_size=len(tokenizer), context_length=64, seed=0, pad_token_id=0,
        eos_token_id=1,
    )  # fmt: skip
    save_model(directory, model, tokenizer)
    return directory


def pairs(path: Path, count: int, *, first_is_better: bool) -> Path:
    words = WORDS.split()
    write_comparisons(
        path,
        [
            Comparison(
                prompt=ask(f"{words[n % 9]} {words[n % 7]} {n}"),
                responses=("a big cat", "an old house"),
                ranks=(1, 2) if first_is_better else (2, 1),
                labeler=f"labeler {n % 4}",
            )
            for n in range(count)
        ],
    )
    return path


def train(
    capfd: pytest.CaptureFixture[str], model: Path, output: Path, *options: str
) -> tuple[dict[str, Any], str]:
    status = run(
        ["preference", "--model", str(model), "--output", str(output / "runs"), "--json",
         "--device", "cpu", "--batch-size", "8", "--optimizer.learning-rate", "3e-3",
         "--optimizer.warmup-steps", "0", *options]
    )  # fmt: skip
    told = capfd.readouterr()
    assert status == 0, told.err
    return json.loads(told.out.splitlines()[-1]), told.err


def test_a_model_that_is_sure_and_wrong_is_warned_of_everywhere(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    learned = pairs(tmp_path / "learned.jsonl", 96, first_is_better=True)
    other = pairs(tmp_path / "other.jsonl", 60, first_is_better=False)
    result, shown = train(
        capfd, base, tmp_path, "--data", str(learned), "--evaluation-data", str(other),
        str(learned), "--evaluation-comparisons", "40", "--labeler-folds", "2",
        "--held-out-fold", "1",
    )  # fmt: skip
    (message,) = result["warnings"]
    assert message.startswith("predicted preferences do not come true: calibration error")
    assert f"warning: {message}" in shown
    assert result["comparisons"] == 48  # two labelers of four are left out
    by_file = result["details"]["by_file"]
    assert by_file[str(other)]["value"] < 0.1
    assert by_file[str(learned)]["value"] > 0.9
    assert set(result["details"]["by_labelers"]) == {"held out", "learned from"}
    assert result["evaluation_comparisons"] == 80
    # The evaluation of training and the measure of the model it leaves are of the same pairs.
    assert result["evaluation_accuracy"] == pytest.approx(result["details"]["estimate"]["value"])
    report = report_for_runs([Path(result["run"])])
    assert ("warning", message) in report.facts[0].rows
    assert [figure.name for figure in report.figures] == [
        "calibration", "accuracy-against-gap", "both-good",
    ]  # fmt: skip


def test_without_evaluation_data_nothing_is_measured(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    learned = pairs(tmp_path / "learned.jsonl", 16, first_is_better=True)
    result, _ = train(capfd, base, tmp_path, "--data", str(learned))
    assert "warnings" not in result
    assert "details" not in result


def test_a_warning_says_which_way_and_by_how_much() -> None:
    generator = np.random.default_rng(5)
    gaps = generator.normal(0, 1.5, 3000)
    outcomes = (generator.random(3000) < 1 / (1 + np.exp(-gaps))).astype(float)
    assert calibration_warnings(gap_calibration(gaps, outcomes)) == []
    (sure,) = calibration_warnings(gap_calibration(4 * gaps, outcomes))
    assert "too sure of itself: divide its scores by 3.7" in sure
    (shy,) = calibration_warnings(gap_calibration(gaps / 4, outcomes))
    assert "not sure enough: divide its scores by 0.2" in shy
