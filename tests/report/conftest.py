import json

import numpy as np
import pytest

from hark.evaluation.intervals import clustered_mean, exact
from hark.evaluation.policies import PolicyEvaluation
from hark.evaluation.winrate import Judgement, win_rate
from hark.runs.manifest import Manifest


def estimate(mean: float, n: int = 40):
    return clustered_mean(mean + np.linspace(-1, 1, n), resamples=200)


def won(share: float, n: int = 40):
    return win_rate(
        [Judgement(outcome=float(i < share * n), prompt=i) for i in range(n)], resamples=200
    )


@pytest.fixture(scope="session")
def rows():
    return (
        PolicyEvaluation(name="base", win_rate=won(0.1), language_loss=estimate(3.4)),
        PolicyEvaluation(name="SFT", helpfulness=estimate(0.5), language_loss=estimate(3.5)),
        PolicyEvaluation(name="best of 16", win_rate=won(0.7), divergence=exact(1.8354)),
        PolicyEvaluation(
            name="PPO <b>$x_1$",
            win_rate=won(0.9),
            helpfulness=estimate(0.8),
            divergence=estimate(8.0),
            language_loss=estimate(3.9),
        ),
    )


@pytest.fixture
def make_run(tmp_path):
    def make(directory: str, *, stage: str = "ppo", name: str = "", metrics=(), results=None):
        path = tmp_path / directory
        path.mkdir()
        Manifest(
            stage=stage, name=name, status="complete" if results is not None else "interrupted",
            command=("hark", stage, "--name", "two words"), fingerprint="f", seed=7, device="cpu",
            dtype="float32", started="2026-01-31T14:05:12+00:00",
            finished="2026-01-31T15:06:14+00:00" if results is not None else None, message=None,
            commit="83c4d2a1b2c3d4e5", dirty=True, versions={"torch": "2.13"},
            parents=("runs/sft",), inputs={"pairs.jsonl": "abcdef0123456789"},
        ).write(path)  # fmt: skip
        lines = "".join(json.dumps(record) + "\n" for record in metrics)
        (path / "metrics.jsonl").write_text(lines, encoding="utf-8")
        if results is not None:
            (path / "results.json").write_text(json.dumps(results), encoding="utf-8")
        return path

    return make
