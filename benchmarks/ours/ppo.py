"""hark's PPO on the same prompts, with a critic of its own.

Asked to `check`, it also says what its models made of the last step's episodes, as token ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from transformers import PreTrainedModel

from benchmarks.ours.steps import OPTIMIZER
from benchmarks.peers.serving import Answer, serve
from hark.data.formats import read_prompts
from hark.loop.judges import scorer
from hark.models.packing import PromptTree, pack_for
from hark.models.scalar_head import load_scalar_model, response_scores
from hark.runs.metrics import read_metrics
from hark.runs.run import Run
from hark.training import ppo
from hark.training.ppo_settings import PPOSettings
from hark.training.rollout import Rollout, sums_per_response


def prepare(settings: dict[str, Any]) -> Any:
    prompts = list(read_prompts(settings["prompts"]))

    def repeat(request: dict[str, Any]) -> Answer:
        told = ppo_settings(settings, request["dtype"], len(prompts))
        score = scorer(settings["preference_model"], device=told.device, dtype=request["dtype"])
        rollouts: list[Rollout] = []
        step = ppo.ppo_step

        def kept_step(*arguments: Any) -> Any:
            rollout, metrics = step(*arguments)
            rollouts.append(rollout)
            return rollout, metrics

        with (
            Run.start(stage="ppo", settings=told, command=["benchmarks"]) as run,
            patch.object(ppo, "ppo_step", kept_step),
        ):
            run.finish(ppo.train(told, run, prompts=prompts, score=score))
        times = [record["step_seconds"] for record in read_metrics(run.path / "timing.jsonl")]
        answer: Answer = {
            "seconds": sum(times),
            "amount": len(prompts),
            "sequences": [pair for rollout in rollouts for pair in lengths(rollout)],
        }
        if "check" in request:
            answer["batches"] = episodes(rollouts[0])
            model = load_scalar_model(settings["preference_model"])
            answer["losses"] = findings(rollouts[0], model)
        return answer

    return repeat


def ppo_settings(settings: dict[str, Any], dtype: str, episodes: int) -> PPOSettings:
    """As `peers/trl_ppo.py` tells TRL; without the moving average, which TRL does not have."""
    optimizer = OPTIMIZER | {"learning_rate": settings["learning_rate"]}
    return PPOSettings.parse(
        {
            "model": settings["model"],
            "preference_model": settings["preference_model"],
            "data": [],
            "output": str(Path(settings["work"]) / "hark"),
            "dtype": dtype,
            "device": settings.get("device", "cpu"),
            "seed": settings["seed"],
            "total_episodes": episodes,
            "batch_episodes": settings["batch_episodes"],
            "minibatch_episodes": settings["batch_episodes"],
            "inner_epochs": settings["inner_epochs"],
            "max_response_tokens": settings["max_tokens"],
            "kl_coefficient": 0.05,
            "incomplete_responses": "keep",
            "optimizer": optimizer,
            "value_learning_rate": settings["learning_rate"],
            "ema_decay": None,
        }
    )


def lengths(rollout: Rollout) -> list[list[Any]]:
    """Tokens of each prompt and response."""
    pairs = zip(rollout.episodes.prompts, rollout.episodes.responses, strict=True)
    return [[len(prompt), [len(response)]] for prompt, response in pairs]


def episodes(rollout: Rollout) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each prompt with its response, token ids."""
    return list(zip(rollout.episodes.prompts, rollout.episodes.responses, strict=True))


def findings(rollout: Rollout, preference_model: PreTrainedModel) -> list[float]:
    """Σ log π of every episode, then Σ log π_ref, mean values, and scores, of the same tokens."""
    per_token = (
        sums_per_response(tensor, rollout.lengths)
        for tensor in (rollout.behaviour_logprobs, rollout.reference_logprobs, rollout.values)
    )
    old, reference, values = per_token
    trees = [PromptTree(prompt, (response,)) for prompt, response in episodes(rollout)]
    with torch.no_grad():
        scores = response_scores(preference_model, pack_for(preference_model, trees))
    return [
        *old.tolist(),
        *reference.tolist(),
        *(values / rollout.lengths).tolist(),
        *scores.tolist(),
    ]


if __name__ == "__main__":
    serve(prepare)
