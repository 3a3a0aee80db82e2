"""Write the whole world to files, as a person's own data would lie on disk."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from hark.data.formats import write_demonstrations, write_prompts, write_texts
from hark.playground.authors import prompts
from hark.playground.demonstrations import demonstrations
from hark.playground.tasks import is_harmful
from hark.playground.text import pretraining_texts
from hark.settings import Settings


class PlaygroundSettings(Settings):
    """How much of each kind to write; the defaults suit the quickstart."""

    seed: int = 0
    """Everything is a function of it; the world's facts and people are always the same."""
    pretraining_texts: int = Field(default=12_000, ge=1)
    """Documents for pretraining, of about 200 characters."""
    heldout_texts: int = Field(default=600, ge=1)
    """Documents by which the loss on pretraining text is measured."""
    demonstrations: int = Field(default=6_000, ge=1)
    """Requests with a contractor's reply."""
    heldout_demonstrations: int = Field(default=400, ge=1)
    """The same with requests and authors that are in no other file."""
    preference_prompts: int = Field(default=2_000, ge=1)
    """Requests whose sampled replies are to be compared."""
    ppo_prompts: int = Field(default=4_000, ge=1)
    """Requests for reinforcement learning."""
    evaluation_prompts: int = Field(default=400, ge=1)
    """Requests, and authors, that are in no other file."""


def write_world(directory: Path, settings: PlaygroundSettings | None = None) -> dict[str, int]:
    """Write nine JSONL files into `directory` and return the number of records in each.

    Files: pretraining, pretraining-heldout (texts); demonstrations, demonstrations-heldout;
    preference-prompts, ppo-prompts (once more in two files, ppo-prompts-harmful and
    ppo-prompts-harmless, by what they ask for), evaluation-prompts. Requests of evaluation-prompts
    and demonstrations-heldout are new combinations of known parts: no such request, whatever its
    pleasantries, is in any other file.
    Raises: DataError where a file cannot be written.
    """
    chosen = settings or PlaygroundSettings()
    directory.mkdir(parents=True, exist_ok=True)
    seed = chosen.seed
    texts = {
        "pretraining": pretraining_texts(chosen.pretraining_texts, 2 * seed),
        "pretraining-heldout": pretraining_texts(chosen.heldout_texts, 2 * seed + 1),
    }
    demonstrated = {
        "demonstrations": demonstrations(chosen.demonstrations, seed),
        "demonstrations-heldout": demonstrations(
            chosen.heldout_demonstrations, seed, split="validation"
        ),
    }
    asked = {
        "preference-prompts": prompts(chosen.preference_prompts, 2 * seed),
        "ppo-prompts": prompts(chosen.ppo_prompts, 2 * seed + 1),
        "evaluation-prompts": prompts(chosen.evaluation_prompts, seed, split="evaluation"),
    }
    for what in ("harmful", "harmless"):
        asked[f"ppo-prompts-{what}"] = [
            each for each in asked["ppo-prompts"] if is_harmful(each.prompt) == (what == "harmful")
        ]
    for name, documents in texts.items():
        write_texts(directory / f"{name}.jsonl", documents)
    for name, written in demonstrated.items():
        write_demonstrations(directory / f"{name}.jsonl", written)
    for name, requests in asked.items():
        write_prompts(directory / f"{name}.jsonl", requests)
    counts = {name: len(records) for name, records in texts.items()}
    counts |= {name: len(records) for name, records in demonstrated.items()}
    return counts | {name: len(records) for name, records in asked.items()}
