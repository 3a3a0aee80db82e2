"""The stage `distill`: context distillation, and how much of the gap it has closed."""

from __future__ import annotations

from typing import Any

from hark.data.formats import read_texts
from hark.evaluation.intervals import Estimate
from hark.evaluation.prompted import context_gap
from hark.loop.inputs import read_files
from hark.models.language_model import choose_device, load_language_model
from hark.models.processes import from_first
from hark.models.tokenizer import load_tokenizer
from hark.runs.run import Run, resolve_model
from hark.training import context_distillation
from hark.training.distill_settings import DistillSettings
from hark.training.teacher import encode_context


def run_distill(settings: DistillSettings, run: Run) -> dict[str, Any]:
    """Teach, then measure KL(prompted teacher ‖ student) before and after on held-out text."""
    results = context_distillation.train(settings, run)
    if not settings.evaluation_data:
        return results
    return results | from_first(lambda: _gap(settings, run))


def _gap(settings: DistillSettings, run: Run) -> dict[str, Any]:
    source, device = str(resolve_model(settings.model)), str(choose_device(settings.device))
    tokenizer = load_tokenizer(source)
    texts = [each.text for each in read_files(read_texts, settings.evaluation_data, settings, run)]
    measured = context_gap(
        load_language_model(source, device=device),
        load_language_model(str(run.model_path), device=device),
        encode_context(tokenizer, settings.context),
        tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"],
        batch_tokens=settings.micro_batch_tokens,
        seed=settings.seed,
    )
    closed: Estimate = measured.closed
    return {
        "gap_before": measured.before.value,
        "gap_after": measured.after.value,
        "gap_closed": closed.value,
        "gap_closed_interval": [closed.low, closed.high] if closed.has_interval else None,
        "gap": measured.to_json(),
    }
