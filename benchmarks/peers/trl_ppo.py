"""TRL's `PPOTrainer`, of the last version that has it; runs in that version's environment.

Asked to `check`, it does not draw responses but takes those it is given, and says what policy,
reference, critic and preference model make of them.
"""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from timed_trainer import COMMON, Clock
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from serving import Answer, serve


def prepare(settings: dict[str, Any]) -> Any:
    prompts = [json.loads(line) for line in Path(settings["tokens"]).read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(settings["model"], padding_side="left")

    def repeat(request: dict[str, Any]) -> Answer:
        clock, checking = Clock(), "episodes" in request
        chosen = [episode[0] for episode in request["episodes"]] if checking else prompts
        # What `accelerate launch --mixed_precision` does: the trainer itself ignores `bf16`.
        AcceleratorState._reset_state(True)
        mixed = request["dtype"] == "bfloat16" and not request.get("autocast")
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if mixed else "no"
        trainer = make_trainer(settings, request, tokenizer, chosen, clock)
        with ExitStack() as stack:
            if request["dtype"] == "bfloat16" and request.get("autocast"):
                stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
            if checking:
                watch = Watch(request["episodes"], tokenizer.pad_token_id)
                watch.attach(stack)
            drawn = Drawn(tokenizer)
            drawn.attach(stack)
            trainer.train()
        if checking:
            return {"seconds": 1.0, "amount": 1.0, "losses": watch.findings()}
        return {
            "seconds": clock.seconds,
            "amount": len(drawn.sequences),
            "sequences": drawn.sequences,
        }

    return repeat


def make_trainer(
    settings: dict[str, Any],
    request: dict[str, Any],
    tokenizer: Any,
    prompts: list[list[int]],
    clock: Clock,
) -> PPOTrainer:
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32)
        for _ in range(2)
    )
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(
            settings["preference_model"], dtype=torch.float32
        )
        for _ in range(2)
    )
    rows = Dataset.from_list([{"input_ids": prompt} for prompt in prompts])
    size = settings["batch_episodes"]
    return PPOTrainer(
        args=PPOConfig(
            **COMMON,
            output_dir=settings["work"] + "/trl",
            learning_rate=settings["learning_rate"],
            seed=settings["seed"],
            bf16=False,
            total_episodes=len(prompts),
            per_device_train_batch_size=request["per_pass"],
            gradient_accumulation_steps=size // request["per_pass"],
            num_mini_batches=1,
            local_rollout_forward_batch_size=request["rollout"],
            num_ppo_epochs=settings["inner_epochs"],
            num_sample_generations=0,
            response_length=settings["max_tokens"],
            stop_token="eos",
            temperature=1.0,
            kl_coef=0.05,
            cliprange=0.2,
            cliprange_value=0.2,
            gamma=1.0,
            lam=0.95,
            whiten_rewards=False,
        ),
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=value,
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[clock],
    )


class Drawn:
    """The lengths of what the trainer draws."""

    def __init__(self, tokenizer: Any) -> None:
        self.pad, self.end = tokenizer.pad_token_id, tokenizer.eos_token_id
        self.sequences: list[list[Any]] = []

    def attach(self, stack: ExitStack) -> None:
        draw = ppo_trainer.batch_generation

        def drawing(model: Any, queries: torch.Tensor, *others: Any) -> Any:
            rows, logits = draw(model, queries, *others)
            self.note(queries, rows)
            return rows, logits

        stack.enter_context(patch.object(ppo_trainer, "batch_generation", drawing))

    def note(self, queries: torch.Tensor, rows: torch.Tensor) -> None:
        for query, row in zip(queries, rows[:, queries.shape[1] :].tolist(), strict=True):
            length = row.index(self.end) + 1 if self.end in row else len(row)
            self.sequences.append([int((query != self.pad).sum()), [length]])


class Watch:
    """Gives the trainer responses instead of drawing them, and keeps what it computes of them."""

    def __init__(self, episodes: list[list[list[int]]], pad: int) -> None:
        self.pad = pad
        self.place = {tuple(prompt): i for i, (prompt, _) in enumerate(episodes)}
        self.responses = [response for _, response in episodes]
        self.order: list[int] = []
        self.logprobs: list[torch.Tensor] = []
        self.rewards: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.width = 0

    def attach(self, stack: ExitStack) -> None:
        measure, reward = ppo_trainer.selective_log_softmax, ppo_trainer.get_reward

        def measuring(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            self.logprobs.append(found := measure(logits, tokens))
            return found

        def rewarding(*arguments: Any) -> Any:
            everywhere, at_end, lengths = reward(*arguments)
            self.rewards.append((everywhere.squeeze(-1), at_end))
            return everywhere, at_end, lengths

        for name, wrapper in (
            ("batch_generation", self.given),
            ("selective_log_softmax", measuring),
            ("get_reward", rewarding),
        ):
            stack.enter_context(patch.object(ppo_trainer, name, wrapper))

    @torch.no_grad()
    def given(self, model: Any, queries: torch.Tensor, *_: Any) -> Any:
        """The given responses to `queries`, and the policy's logits for them."""
        rows = [[token for token in query if token != self.pad] for query in queries.tolist()]
        self.order = [self.place[tuple(row)] for row in rows]
        responses = [self.responses[i] for i in self.order]
        self.width = max(map(len, responses))
        padded = [row + [self.pad] * (self.width - len(row)) for row in responses]
        both = torch.cat((queries, torch.tensor(padded)), dim=1)
        output = ppo_trainer.forward(model, both, self.pad)
        return both, output.logits[:, queries.shape[1] - 1 : -1]

    def findings(self) -> list[float]:
        """Σ log π of every episode as given, then Σ log π_ref, mean values, and scores."""
        old, reference = self.logprobs[:2]
        (values, _), (_, scores) = self.rewards[:2]
        row_of = [self.order.index(place) for place in range(len(self.responses))]
        counts = [len(response) for response in self.responses]
        pairs = list(zip(row_of, counts, strict=True))
        values = values[:, -self.width - 1 : -1]
        return [
            *(float(old[row, :count].sum()) for row, count in pairs),
            *(float(reference[row, :count].sum()) for row, count in pairs),
            *(float(values[row, :count].mean()) for row, count in pairs),
            *(float(scores[row]) for row in row_of),
        ]


if __name__ == "__main__":
    serve(prepare)
