"""The stage `outliers`: fit a detector of prompts unlike the ordinary, and say how good it is.

Bai et al. (2204.05862). Of the ordinary prompts three fifths fit, a fifth chooses the
layer and sets the threshold, and on the last fifth it is measured; of the outliers the first few
are those of outlier exposure, half of the rest chooses, half measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hark.data.formats import read_prompts
from hark.data.mixing import permutation
from hark.data.records import Dialogue
from hark.errors import DataError, SettingsError
from hark.evaluation.out_of_distribution import (
    LayerAreas,
    areas_at_layer,
    outlier_exposure,
    share_above,
    threshold_for,
)
from hark.loop.inputs import model_files, read_files
from hark.models.activations import Pooling, layer_count, prompt_activations
from hark.models.language_model import choose_device, context_length, load_language_model
from hark.models.outlier_detector import (
    Array,
    Gaussian,
    Method,
    OutlierDetector,
    detector_directory,
)
from hark.models.tokenizer import encode_prompt, load_tokenizer, padding_id, truncate_prompt
from hark.runs.progress import progress
from hark.runs.run import Run, resolve_model
from hark.runs.settings import DataStageSettings
from hark.training.examples import Paths

Vectors = NDArray[np.float32]
"""[P,L,D]: prompts, layers, width."""


class OutliersSettings(DataStageSettings):
    """Fit a detector of prompts unlike those a model was made for."""

    model: str
    """The language model whose activations are read: a directory, a run or a Hub name."""
    data: Paths
    """Files of ordinary prompts (demonstrations and comparisons serve too)."""
    outlier_data: Paths = ()
    """Files of prompts that should stand out; without them nothing is measured, only fitted."""
    limit: int | None = Field(default=None, ge=1)
    """Take only so many prompts of each kind."""
    method: Literal["mahalanobis", "simplified_relative", "exposed"] = "simplified_relative"
    """What the detector goes by: a distance, or a direction learned from a few outliers."""
    exposed: tuple[int, ...] = (10,)
    """Numbers of known outliers that outlier exposure is measured with; the detector takes the
    largest."""
    layer: int | None = Field(default=None, ge=0)
    """Whose activations it goes by; by default the layer that tells best on the prompts set aside
    for choosing, or the middle one without outliers. 0 is the embeddings."""
    pooling: Pooling = "mean"
    """A prompt's vector: the mean over its tokens, or its last token."""
    shrinkage: float = Field(default=0.01, ge=0.0, le=1.0)
    """How far the covariance is drawn to its diagonal, so that it has an inverse."""
    false_refusals: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of ordinary prompts that the threshold may refuse."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of one pass, padding included. Without it 4096 on a CPU and 8192 on a GPU."""

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        if not self.outlier_data and "exposed" in self.model_fields_set:
            raise ValueError("exposed would be ignored without outlier_data")
        if self.method == "exposed" and not (self.outlier_data and self.exposed):
            raise ValueError("method 'exposed' needs outlier_data and a number of them in exposed")
        if any(count < 1 for count in self.exposed):
            raise ValueError(f"exposed must name positive numbers, not {list(self.exposed)}")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Which vectors do what."""

    fit: Vectors
    choose: Vectors
    measure: Vectors
    known: Vectors
    """Outliers for outlier exposure."""
    choose_outliers: Vectors
    measure_outliers: Vectors


def run_outliers(settings: OutliersSettings, run: Run) -> dict[str, Any]:
    """Write `detector/`; results: areas by layer, the layer taken, and what the threshold does."""
    source = str(resolve_model(settings.model))
    parts = _parts(settings, run, source)
    layers = parts.fit.shape[1]
    if settings.layer is not None and settings.layer >= layers:
        raise SettingsError(f"layer {settings.layer} does not exist: the last one is {layers - 1}")
    fitted = [Gaussian.fit(parts.fit[:, k], shrinkage=settings.shrinkage) for k in range(layers)]
    directions = [_directions(settings, parts, k) for k in range(layers)]
    has_outliers = len(parts.measure_outliers) > 0
    layer = settings.layer if settings.layer is not None else layers // 2
    results: dict[str, Any] = {}
    if has_outliers:
        if settings.layer is None:
            choosing = _areas(fitted, directions, parts.choose, parts.choose_outliers)
            layer = max(choosing, key=lambda each: _area(each, settings)).layer
        areas = _areas(fitted, directions, parts.measure, parts.measure_outliers)
        results["layers"] = [each.to_json() for each in areas]
        results["area"] = _estimates(areas[layer], settings)
    detector = _detector(settings, source, layer, fitted[layer], directions[layer], parts)
    detector.save(run.path / "detector")
    ordinary = share_above(detector.scores(parts.measure[:, layer]), detector.threshold)
    results |= {
        "layer": layer,
        "threshold": detector.threshold,
        "false_refusals": ordinary.to_json(),
    }
    if has_outliers:
        caught = share_above(detector.scores(parts.measure_outliers[:, layer]), detector.threshold)
        results["outliers_refused"] = caught.to_json()
    return results | {"path": str(run.path / "detector"), "prompts": len(parts.fit)}


def guard_files(run: Path) -> list[Path]:
    """What decides the verdicts of a detector: itself, and the model it reads with.

    Raises: ModelError if the run holds no detector.
    """
    directory = detector_directory(run)
    return [directory, *model_files(OutlierDetector.load(directory).model)]


def _parts(settings: OutliersSettings, run: Run, source: str) -> _Parts:
    """Read, encode and part the prompts; every distinct prompt once."""
    ordinary = _distinct(settings, settings.data, run)
    outliers = _distinct(settings, settings.outlier_data, run) if settings.outlier_data else []
    outliers = [prompt for prompt in outliers if prompt not in set(ordinary)]
    if len(ordinary) < 10:
        raise DataError(f"{len(ordinary)} different ordinary prompts are too few: give 10 or more")
    known = max(settings.exposed, default=0) if settings.outlier_data else 0
    if settings.outlier_data and len(outliers) < known + 4:
        raise DataError(
            f"{len(outliers)} different outliers are too few to know {known} and measure on others;"
            f" give {known + 4} or more, or lower exposed"
        )
    vectors = _vectors(settings, source, ordinary + outliers)
    inside, outside = vectors[: len(ordinary)], vectors[len(ordinary) :]
    fit, choose = 3 * len(inside) // 5, 4 * len(inside) // 5
    half = known + (len(outside) - known) // 2
    return _Parts(
        fit=inside[:fit], choose=inside[fit:choose], measure=inside[choose:],
        known=outside[:known], choose_outliers=outside[known:half], measure_outliers=outside[half:],
    )  # fmt: skip


def _distinct(settings: OutliersSettings, paths: Paths, run: Run) -> list[Dialogue]:
    """Different prompts in a random order."""
    read = read_files(read_prompts, paths, settings, run)
    prompts = list(dict.fromkeys(each.prompt for each in read))
    order = permutation(len(prompts), seed=settings.seed, stream=0)
    return [prompts[int(place)] for place in order][: settings.limit]


def _vectors(settings: OutliersSettings, source: str, prompts: Sequence[Dialogue]) -> Vectors:
    device = str(choose_device(settings.device))
    model = load_language_model(source, device=device, dtype=settings.dtype)
    tokenizer, limit = load_tokenizer(source), context_length(model)
    encoded = [truncate_prompt(encode_prompt(tokenizer, prompt), limit)[0] for prompt in prompts]
    with progress(total=len(prompts), label="activations", unit="prompt") as bar:
        return prompt_activations(
            model, encoded, layers=range(layer_count(model)), pooling=settings.pooling,
            pad_token_id=padding_id(tokenizer), batch_tokens=settings.batch_tokens,
            on_progress=bar.advance,
        )  # fmt: skip


def _directions(settings: OutliersSettings, parts: _Parts, layer: int) -> dict[int, Array]:
    if not len(parts.known):
        return {}
    return {
        count: outlier_exposure(parts.fit[:, layer], parts.known[:count, layer])
        for count in sorted(settings.exposed)
    }


def _areas(
    fitted: Sequence[Gaussian],
    directions: Sequence[dict[int, Array]],
    ordinary: Vectors,
    outliers: Vectors,
) -> list[LayerAreas]:
    return [
        areas_at_layer(layer, gaussian, of_layer, ordinary[:, layer], outliers[:, layer])
        for layer, (gaussian, of_layer) in enumerate(zip(fitted, directions, strict=True))
    ]


def _area(areas: LayerAreas, settings: OutliersSettings) -> float:
    return float(_estimates(areas, settings)["value"])


def _estimates(areas: LayerAreas, settings: OutliersSettings) -> dict[str, Any]:
    """The area of the method that was asked for."""
    method: Method = settings.method
    if method == "exposed":
        return areas.exposed[max(settings.exposed)].to_json()
    of_method = {
        "mahalanobis": areas.mahalanobis,
        "simplified_relative": areas.simplified_relative,
    }
    return of_method[method].to_json()


def _detector(
    settings: OutliersSettings,
    source: str,
    layer: int,
    gaussian: Gaussian,
    directions: dict[int, Array],
    parts: _Parts,
) -> OutlierDetector:
    """With a threshold that refuses the allowed share of the prompts set aside for choosing."""
    width = len(gaussian.mean)
    exposed = settings.method == "exposed"
    nothing = np.zeros((width, width))
    detector = OutlierDetector(
        method=settings.method, layer=layer, pooling=settings.pooling, model=source,
        centre=gaussian.mean,
        quadratic=nothing if exposed else OutlierDetector.matrix(settings.method, gaussian),
        linear=directions[max(settings.exposed)] if exposed else nothing[0],
        threshold=0.0, false_refusal_rate=0.0,
    )  # fmt: skip
    threshold = threshold_for(detector.scores(parts.choose[:, layer]), settings.false_refusals)
    rate = share_above(detector.scores(parts.measure[:, layer]), threshold).value
    return detector.with_threshold(threshold, false_refusal_rate=float(rate or 0.0))
