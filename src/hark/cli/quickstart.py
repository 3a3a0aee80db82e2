"""`hark quickstart`: the whole loop on the built-in playground, with a report at the end."""

from __future__ import annotations

from hark.cli.options import DryRun, Json, Overrides
from hark.cli.run import Device, Miniature, Output, Precision, Seed, run

NEXT = """
Next, with data of your own (JSON lines; `hark data inspect FILE` says what hark makes of a file):
  hark sft --model MODEL --data demonstrations.jsonl
  hark preference --model runs/…-sft --data comparisons.jsonl
  hark ppo --model runs/…-sft --preference-model runs/…-preference --data prompts.jsonl
MODEL is a Hugging Face directory, a run directory, or a Hub name. `hark run instructgpt --dry-run`
shows the whole pipeline as one recipe, with the hyper-parameters of the paper."""


def quickstart(
    *,
    set_: Overrides = [],  # noqa: B006 (cyclopts shows it; it is never changed)
    output: Output = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Precision = None,
    miniature: Miniature = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """The recipe `quickstart`, and what to do next."""
    run(
        "quickstart",
        set_=set_,
        output=output,
        seed=seed,
        device=device,
        dtype=dtype,
        miniature=miniature,
        dry_run=dry_run,
        json=json,
    )
    if not json and not dry_run:
        print(NEXT)
