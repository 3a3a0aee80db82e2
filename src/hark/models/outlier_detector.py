"""A detector of prompts unlike those a model was made for, by the model's own activations.

Bai et al. (2204.05862): with μ and Σ of the vectors of ordinary prompts,

    M(x)   = (x − μ)ᵀ Σ⁻¹ (x − μ)                         Mahalanobis
    SRM(x) = M(x) − (x − μ)ᵀ diag(Σ)⁻¹ (x − μ)             simplified relative Mahalanobis

and, once some outliers are known, a linear score (outlier exposure). All three are a quadratic and
a linear form of x − μ, so a detector is a centre, a matrix, a vector and a threshold.

1. Σ is shrunk a little to its diagonal, without which it has no inverse where there are fewer
   prompts than dimensions; the paper had more. The diagonal, and so the second term of SRM, stays.
2. A vector is the mean over a prompt's tokens, or its last token; the paper does not say which.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.records import Dialogue
from hark.errors import ModelError
from hark.models.activations import Pooling, layer_count, prompt_activations
from hark.models.language_model import context_length, load_language_model
from hark.models.tokenizer import encode_prompt, load_tokenizer, padding_id, truncate_prompt

Array = NDArray[np.float64]
Method = Literal["mahalanobis", "simplified_relative", "exposed"]

TENSORS, DESCRIPTION = "detector.safetensors", "detector.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gaussian:
    """Ordinary vectors."""

    mean: Array
    """μ [D]."""
    precision: Array
    """Σ⁻¹ [D,D]."""
    variances: Array
    """diag(Σ) [D]."""

    @classmethod
    def fit(cls, vectors: NDArray[np.floating], *, shrinkage: float) -> Self:
        """Of vectors [n,D]; off the diagonal Σ is scaled by 1 − shrinkage.

        Raises: ModelError if some dimension never varies or Σ has no inverse.
        """
        points = np.asarray(vectors, dtype=np.float64)
        covariance = np.atleast_2d(np.cov(points, rowvar=False))
        variances = np.diag(covariance).copy()
        covariance *= 1 - shrinkage
        np.fill_diagonal(covariance, variances)
        if len(points) < 2 or not (variances > 0).all():
            raise ModelError(
                f"{len(points)} prompts do not vary in every dimension of their vectors; give more "
                "and different prompts"
            )
        try:
            precision = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
        except np.linalg.LinAlgError:
            raise ModelError(
                f"the covariance of {len(points)} vectors of {points.shape[1]} dimensions has no "
                "inverse; give more prompts or a shrinkage above 0"
            ) from None
        return cls(mean=points.mean(axis=0), precision=precision, variances=variances)

    def mahalanobis(self, vectors: NDArray[np.floating]) -> Array:
        """M of [n,D]: [n]."""
        return quadratic_form(vectors - self.mean, self.precision)

    def simplified_relative(self, vectors: NDArray[np.floating]) -> Array:
        """SRM of [n,D]: [n]."""
        centred = vectors - self.mean
        return self.mahalanobis(vectors) - (centred**2 / self.variances).sum(axis=1)


def quadratic_form(vectors: NDArray[np.floating], matrix: Array) -> Array:
    """xᵀ A x of each row x: [n,D], [D,D] -> [n]."""
    return np.asarray(((vectors @ matrix) * vectors).sum(axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutlierDetector:
    """score(x) = (x − centre)ᵀ quadratic (x − centre) + linear · (x − centre)."""

    method: Method
    layer: int
    """Whose activations are scored; 0 is the embeddings."""
    pooling: Pooling
    centre: Array
    """[D]"""
    quadratic: Array
    """[D,D]; all 0 for outlier exposure."""
    linear: Array
    """[D]; all 0 for the other methods."""
    threshold: float
    """A prompt that scores higher is refused."""
    false_refusal_rate: float
    """Share of ordinary prompts, not used for fitting, that score higher."""
    model: str
    """Where the language model lay when the detector was fitted."""

    @staticmethod
    def matrix(method: Method, gaussian: Gaussian) -> Array:
        """The quadratic form of a Mahalanobis distance, plain or simplified relative: [D,D]."""
        if method == "mahalanobis":
            return gaussian.precision
        return np.asarray(gaussian.precision - np.diag(1 / gaussian.variances))

    def with_threshold(self, threshold: float, *, false_refusal_rate: float) -> OutlierDetector:
        """The same, with another threshold and what it was measured to do."""
        return replace(self, threshold=threshold, false_refusal_rate=false_refusal_rate)

    def scores(self, vectors: NDArray[np.floating]) -> Array:
        """How unlike the ordinary: [n,D] -> [n]."""
        centred = np.asarray(vectors, dtype=np.float64) - self.centre
        return quadratic_form(centred, self.quadratic) + centred @ self.linear

    def save(self, directory: Path) -> None:
        """Write `detector.safetensors` and `detector.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {name: getattr(self, name) for name in ("centre", "quadratic", "linear")}
        save_file(tensors, directory / TENSORS)
        plain = {
            name: value for name, value in asdict(self).items() if name not in tensors
        }  # fmt: skip
        (directory / DESCRIPTION).write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Raises: ModelError if there is no detector or it is damaged."""
        try:
            fields: dict[str, Any] = json.loads((directory / DESCRIPTION).read_text("utf-8"))
            fields |= load_file(directory / TENSORS)
            return cls(**fields)
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise ModelError(
                f"'{directory}' holds no detector of outliers ({error}); give a run of hark "
                "outliers"
            ) from None


def detector_directory(run: Path) -> Path:
    """Where a run of `hark outliers` keeps its detector; the path itself if it is no such run."""
    return run / "detector" if (run / "detector").is_dir() else run


class OutlierGuard:
    """A detector with the language model whose activations it goes by."""

    def __init__(
        self,
        detector: OutlierDetector,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """Raises: ModelError if the model has not the layer or width of the detector."""
        width = int(model.config.get_text_config().hidden_size)
        if detector.layer >= layer_count(model) or len(detector.centre) != width:
            raise ModelError(
                f"the detector was fitted at layer {detector.layer} of width "
                f"{len(detector.centre)}, but the model has {layer_count(model) - 1} layers of "
                f"width {width}; give the model it was fitted on"
            )
        self.detector, self.model, self.tokenizer = detector, model, tokenizer

    @classmethod
    def load(cls, run: Path, *, device: str, dtype: str = "float32") -> Self:
        """Read a run of `hark outliers`, and the model it names.

        Raises: ModelError if either is not there.
        """
        detector = OutlierDetector.load(detector_directory(run))
        model = load_language_model(detector.model, device=device, dtype=dtype)
        return cls(detector, model, load_tokenizer(detector.model))

    def scores(self, prompts: Sequence[Dialogue]) -> Array:
        """How unlike the ordinary each prompt is: [n]."""
        limit = context_length(self.model)
        encoded = [
            truncate_prompt(encode_prompt(self.tokenizer, prompt), limit)[0] for prompt in prompts
        ]
        vectors = prompt_activations(
            self.model, encoded, layers=[self.detector.layer], pooling=self.detector.pooling,
            pad_token_id=padding_id(self.tokenizer),
        )  # fmt: skip
        return self.detector.scores(vectors[:, 0])

    def refused(self, prompts: Sequence[Dialogue]) -> list[bool]:
        """Which prompts score above the threshold."""
        return [bool(score > self.detector.threshold) for score in self.scores(prompts)]
