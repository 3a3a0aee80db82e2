"""Models that give one number: preference models (a score per response) and values (per token).

Both are `AutoModelForSequenceClassification` with one label and a head named `score` without bias,
so that any Hugging Face program can load them. The constant that makes demonstrations score 0
(InstructGPT 3.5, Stiennon 3.4) is `config.reward_bias`: it is added here to every score and value,
while a gain is folded into the head's weights. A program that does not know `reward_bias` sees
scores that differ by that constant.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hark.data.records import Dialogue
from hark.errors import DataError, ModelError
from hark.models.adapter_directory import (
    base_of,
    is_adapter,
    is_of_scalar_model,
    merge_adapter,
    read_reward_bias,
)
from hark.models.language_model import (
    DTYPES,
    attention_implementation,
    backbone,
    check_dtype,
    context_length,
    load_language_model,
    read_pretrained,
)
from hark.models.logprobs import hidden_states
from hark.models.packing import (
    PackedBatch,
    PromptTree,
    pack_for,
    pass_tokens,
    plan_batches,
    trees_by_prompt,
)
from hark.models.parallel import whole
from hark.models.tokenizer import encode_prompt, encode_response, truncate_prompt


def new_scalar_model(
    language_model: PreTrainedModel, *, initial_std: float | None = None, seed: int = 0
) -> PreTrainedModel:
    """A copy of the language model's transformer with a scalar head instead of its own.

    initial_std: standard deviation of the head's normal weights, drawn from `seed` alone. None is
        1/√(D+1) (Stiennon et al. 2020, lm-human-preferences `model.py`); 0.0 gives zeros, as for
        Ziegler's value head.
    Raises: ModelError if the architecture has no sequence classification class.
    """
    model = _made_like(language_model)
    backbone(model).load_state_dict(backbone(language_model).state_dict())
    _draw_head(model, initial_std, seed)
    return model.to(language_model.device).eval()


def scalar_head_on(
    language_model: PreTrainedModel, *, initial_std: float | None = None, seed: int = 0
) -> PreTrainedModel:
    """As `new_scalar_model`, on the language model's own transformer, which is not copied."""
    with torch.device("meta"):
        model = _made_like(language_model)
    # Registered under the same name, so that it is saved and loaded like any other.
    setattr(model, model.base_model_prefix, backbone(language_model))
    model.score.to_empty(device=language_model.device)
    _draw_head(model, initial_std, seed)
    return model.eval()


def _draw_head(model: Any, initial_std: float | None, seed: int) -> None:
    width = model.score.in_features
    std = (width + 1) ** -0.5 if initial_std is None else initial_std
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.score.weight.copy_(std * torch.randn(1, width, generator=generator))


def _made_like(language_model: PreTrainedModel) -> Any:
    """A model with a scalar head and the transformer of another, but not its weights."""
    config = copy.deepcopy(language_model.config)
    config.num_labels = 1
    config.reward_bias = 0.0
    config.pad_token_id = _padding_id(config)
    try:
        with torch.random.fork_rng(devices=[]):
            return AutoModelForSequenceClassification.from_config(
                config,
                dtype=language_model.dtype,
                attn_implementation=attention_implementation(config),
            )
    except ValueError:
        raise ModelError(
            f"transformers has no sequence classification for {config.model_type} models, which "
            "a preference or value model needs; use another base model"
        ) from None


def load_scalar_model(
    path: str | Path, *, device: str | torch.device = "cpu", dtype: str = "float32"
) -> PreTrainedModel:
    """Read a preference or value model from a local directory, or by its Hub name.

    A directory with an adapter of peft's stands for its base with adapter and head merged.

    Raises: ModelError as `load_language_model`, and for a model without exactly one label.
    """
    if is_adapter(path):
        return _read_adapted(path, dtype=dtype).to(torch.device(device))
    model = read_pretrained(AutoModelForSequenceClassification, path, dtype=dtype)
    if model.config.num_labels != 1 or not hasattr(model, "score"):
        raise ModelError(
            f"'{path}' classifies into {model.config.num_labels} labels; a preference or value "
            "model has one label and a head named 'score'"
        )
    return model.to(torch.device(device))


def _read_adapted(path: str | Path, *, dtype: str) -> PreTrainedModel:
    """The base of an adapter, with a head if it has none, and the adapter merged."""
    check_dtype(dtype)
    if not is_of_scalar_model(path):
        raise ModelError(
            f"'{path}' is the adapter of a language model, not of a preference or value model; "
            "give one that was trained for sequence classification with one label"
        )
    base = base_of(path)
    if has_scalar_head(base):
        model = load_scalar_model(base)
    else:
        model = new_scalar_model(load_language_model(base))
    model = merge_adapter(model, path).to(DTYPES[dtype])
    if (bias := read_reward_bias(path)) is not None:
        model.config.reward_bias = bias
    return model


def has_scalar_head(name: str) -> bool:
    """Whether a model, which may be an adapter, is a preference or value model."""
    if is_adapter(name):
        return is_of_scalar_model(name)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError):
        return False  # What is wrong with it is told where it is read.
    return any("SequenceClassification" in kind for kind in config.architectures or ())


def response_scores(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """[N] float32: the score at the last token of each response, plus `config.reward_bias`."""
    return scores_of_hidden(model, hidden_states(model, batch, batch.ends))


def token_values(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """[M] float32: the value of the state before each response token, plus `config.reward_bias`.

    Read where the token is predicted (lm-human-preferences `policy.py`: positions [ctx−1 : −1]).
    """
    return scores_of_hidden(model, hidden_states(model, batch, batch.predictors))


class ModelScorer:
    """A `Scorer`: what a preference model thinks of answered dialogues.

    A sharded model is whole while it scores, for which all processes must score at the same time.
    A prompt too long for the context loses its beginning; `truncated` counts how often.
    long_responses: what happens to a response too long for the context: an error, or its end is
        cut, counted in `responses_cut`.
    max_batch_tokens: of one forward pass, by default what suits the device.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_batch_tokens: int | None = None,
        long_responses: Literal["stop", "cut"] = "stop",
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_batch_tokens = max_batch_tokens or pass_tokens(model.device)
        self.long_responses = long_responses
        self.truncated = 0
        self.responses_cut = 0

    @torch.no_grad()
    def __call__(self, dialogues: list[Dialogue]) -> Tensor:
        """[n] float32 on the CPU, in the order of `dialogues`; each ends with an assistant turn.

        Raises: DataError for a dialogue that does not, ModelError for a response too long for the
        context unless it is to be cut.
        """
        trees, members = self._trees(dialogues)
        scores = torch.empty(len(dialogues))
        with whole(self.model):
            for indices in plan_batches(trees, self.max_batch_tokens):
                batch = pack_for(self.model, [trees[index] for index in indices])
                places = torch.tensor([place for index in indices for place in members[index]])
                scores[places] = response_scores(self.model, batch.to(self.model.device)).cpu()
        return scores

    def _trees(self, dialogues: list[Dialogue]) -> tuple[list[PromptTree], list[list[int]]]:
        """Dialogues with the same prompt become one tree, or several where one would be too large
        for a pass; also which dialogues each tree holds."""
        limit = context_length(self.model)
        prompts: list[list[int]] = []
        responses: list[list[int]] = []
        for place, dialogue in enumerate(dialogues):
            if not dialogue or dialogue[-1].role != "assistant":
                raise DataError(
                    f"dialogue {place} to be scored does not end with an assistant turn; "
                    "append the response as one"
                )
            prompt, response = self._encode(dialogue)
            if self.long_responses == "cut" and len(response) >= limit:
                response = response[: limit - min(len(prompt), limit // 2)]
                self.responses_cut += 1
            if len(response) >= limit:
                raise ModelError(
                    f"the response of dialogue {place} has {len(response)} tokens, more than the "
                    f"context of {limit} leaves room for; leave it out, have long responses cut, "
                    "or use a model with a longer context"
                )
            prompt, cut = truncate_prompt(prompt, limit - len(response))
            self.truncated += cut
            prompts.append(prompt)
            responses.append(response)
        whole_trees, order = trees_by_prompt(prompts, responses)
        trees = [part for tree in whole_trees for part in tree.parts(self.max_batch_tokens)]
        places = iter(order)
        return trees, [[next(places) for _ in tree.responses] for tree in trees]

    def fits(self, dialogue: Dialogue) -> bool:
        """Whether the response leaves room for a prompt without being cut."""
        return len(self._encode(dialogue)[1]) < context_length(self.model)

    def _encode(self, dialogue: Dialogue) -> tuple[list[int], list[int]]:
        before, response = dialogue[:-1], dialogue[-1].content
        ids = encode_response(self.tokenizer, before, response, allow_empty=True)
        return encode_prompt(self.tokenizer, before), ids


def scores_of_hidden(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """[Q, D] hidden states -> [Q] float32 scores or values, `config.reward_bias` added.

    For callers that need the same forward pass for log-probabilities.
    """
    return model.score(hidden).squeeze(-1).float() + getattr(model.config, "reward_bias", 0.0)


def _padding_id(config: object) -> int:
    """A pad id that is not an end token: Hugging Face reads the score at the last other token."""
    text = config.get_text_config()  # type: ignore[attr-defined]
    ends = text.eos_token_id if isinstance(text.eos_token_id, list) else [text.eos_token_id]
    if text.pad_token_id is not None and text.pad_token_id not in ends:
        return int(text.pad_token_id)
    return next(candidate for candidate in range(len(ends) + 1) if candidate not in ends)
