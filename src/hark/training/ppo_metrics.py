"""What a PPO step reports: its metrics, its samples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hark.errors import RunError
from hark.runs.files import explain_disk_errors
from hark.training.kl import sequence_kl
from hark.training.policy_objectives import explained_variance
from hark.training.rollout import Rollout, sums_per_response

NGRAM = 4


def rollout_metrics(rollout: Rollout) -> dict[str, float]:
    """What the episodes were like, before anything is learnt from them."""
    lengths = rollout.lengths
    kl = sequence_kl(rollout.behaviour_logprobs, rollout.reference_logprobs, lengths)
    metrics = {
        "score": float(rollout.raw_scores.mean()),
        "score_deviation": float(rollout.raw_scores.std(unbiased=False)),
        "reward": float(sums_per_response(rollout.rewards, lengths).mean()),
        "kl": float(kl.mean()),
        "kl_per_token": float(kl.sum() / lengths.sum()),
        # The mean of −log π over sampled tokens: what is padded elsewhere does not exist here.
        "entropy": float(-rollout.behaviour_logprobs.mean()),
        "response_tokens": float(lengths.float().mean()),
        "incomplete_share": float((~rollout.episodes.is_complete).float().mean()),
        "repetition": repeated_share(rollout.episodes.responses),
        "value": float(rollout.values.mean()),
        "return": float(rollout.returns.mean()),
    }
    explained = explained_variance(rollout.values, rollout.returns)
    return metrics if explained is None else metrics | {"value_explained_variance": explained}


def repeated_share(responses: Sequence[Sequence[int]], *, ngram: int = NGRAM) -> float:
    """Of all n-grams of all responses, the share that occurred earlier in the same response."""
    total = distinct = 0
    for response in responses:
        grams = [tuple(response[i : i + ngram]) for i in range(len(response) - ngram + 1)]
        total += len(grams)
        distinct += len(set(grams))
    return (total - distinct) / total if total else 0.0


def require_finite_metrics(metrics: Mapping[str, float], step: int) -> None:
    """Raises: RunError that names the first metric that is not finite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise RunError(
                f"PPO diverged: {name} is {value} in step {step}; lower optimizer.learning_rate "
                "or raise kl_coefficient, and look at the samples before this step"
            )


def write_samples(path: Path, rollout: Rollout, count: int) -> None:
    """Write the first `count` episodes as JSON lines: prompt, response, score, KL in nats."""
    kl = sequence_kl(rollout.behaviour_logprobs, rollout.reference_logprobs, rollout.lengths)
    with explain_disk_errors(path), path.open("w", encoding="utf-8") as file:
        for index in range(min(count, len(rollout.episodes.texts))):
            record = {
                "prompt": [
                    {"role": message.role, "content": message.content}
                    for message in rollout.episodes.dialogues[index]
                ],
                "response": rollout.episodes.texts[index],
                "score": float(rollout.scores[index]),
                "kl": float(kl[index]),
                "complete": bool(rollout.episodes.is_complete[index]),
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
