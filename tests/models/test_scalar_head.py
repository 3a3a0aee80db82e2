from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from hark.data.records import Dialogue, answered, ask
from hark.errors import DataError, ModelError
from hark.models.checkpoint import save_model
from hark.models.language_model import Architecture, backbone, new_language_model
from hark.models.packing import PromptTree, pack, pack_for
from hark.models.scalar_head import (
    ModelScorer,
    load_scalar_model,
    new_scalar_model,
    response_scores,
    scalar_head_on,
    token_values,
)
from hark.models.tokenizer import encode_prompt, encode_response, train_tokenizer

TREES = [PromptTree((5, 6, 7), ((9, 10, 1), (11, 1))), PromptTree((20,), ((21, 22, 23, 1),))]


def test_the_same_number_as_hugging_face_on_right_padded_input(
    family_model: PreTrainedModel, tmp_path: Path
) -> None:
    model = new_scalar_model(family_model)
    end = model.config.eos_token_id
    trees = [
        PromptTree(tree.prompt, tuple((*branch[:-1], end) for branch in tree.responses))
        for tree in TREES
    ]
    model.config.reward_bias = -2.5
    save_model(tmp_path / "reward", model, None)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
    pad = theirs.config.pad_token_id
    assert pad != end
    sequences = [[*tree.prompt, *branch] for tree in trees for branch in tree.responses]
    padded = torch.tensor([ids + [pad] * (8 - len(ids)) for ids in sequences])
    mask = torch.tensor([[1] * len(ids) + [0] * (8 - len(ids)) for ids in sequences])
    with torch.no_grad():
        expected = theirs(input_ids=padded, attention_mask=mask).logits[:, 0]
        got = response_scores(model, pack_for(model, trees))
    torch.testing.assert_close(got, expected - 2.5, rtol=1e-5, atol=1e-5)


def test_the_score_does_not_depend_on_padding_or_neighbours(family_model: PreTrainedModel) -> None:
    model = new_scalar_model(family_model)
    alone = [response_scores(model, pack([tree])) for tree in TREES]
    together = response_scores(model, pack(TREES, row_tokens=40, pad_token_id=7))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_values_are_read_where_tokens_are_predicted(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = new_scalar_model(make_family("llama-tied"))
    model.config.reward_bias = 1.5
    tree = PromptTree((5, 6), ((9, 10, 1),))
    values = token_values(model, pack([tree]))
    states = model.base_model(torch.tensor([[5, 6, 9, 10, 1]])).last_hidden_state[0]
    # Before 9 stands 6 (place 1), before 10 stands 9 (2), before the end stands 10 (3).
    torch.testing.assert_close(values, model.score(states[1:4])[:, 0] + 1.5)


def test_the_head_starts_as_the_papers_say(make_family: Callable[..., PreTrainedModel]) -> None:
    base = make_family("llama-tied")
    base_with_width_32 = new_scalar_model(base, seed=1)
    # 1/√33 = 0.174; the estimate from 32 numbers is within 40 % of it.
    assert base_with_width_32.score.weight.std().item() == pytest.approx(0.174, rel=0.4)
    assert torch.equal(base_with_width_32.score.weight, new_scalar_model(base, seed=1).score.weight)
    assert not torch.equal(
        base_with_width_32.score.weight, new_scalar_model(base, seed=2).score.weight
    )
    zero = new_scalar_model(base, initial_std=0.0)
    assert response_scores(zero, pack(TREES)).tolist() == [0.0, 0.0, 0.0]
    third = new_scalar_model(base, initial_std=0.348, seed=1)
    torch.testing.assert_close(
        third.score.weight, base_with_width_32.score.weight * 0.348 * 33**0.5
    )


def test_a_new_head_leaves_the_language_model_and_the_generator_alone(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    base = make_family("llama-tied")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = new_scalar_model(base)
    assert torch.equal(torch.rand(3), expected)
    response_scores(model, pack(TREES)).sum().backward()
    assert all(parameter.grad is None for parameter in base.parameters())
    assert base.config.num_labels == 2
    assert torch.equal(model.model.embed_tokens.weight, base.model.embed_tokens.weight)


def test_a_head_on_the_transformer_itself_is_that_on_a_copy(
    family_model: PreTrainedModel, tmp_path: Path
) -> None:
    copied, own = (make(family_model, seed=3) for make in (new_scalar_model, scalar_head_on))
    assert backbone(own) is backbone(family_model)
    assert {each.device.type for each in own.parameters()} == {"cpu"}
    assert {each.device.type for each in own.buffers()} <= {"cpu"}
    packed = pack_for(copied, TREES)
    assert torch.equal(response_scores(own, packed), response_scores(copied, packed))
    save_model(tmp_path / "own", own, None)
    save_model(tmp_path / "copied", copied, None)
    loaded = load_scalar_model(tmp_path / "own")
    assert torch.equal(response_scores(loaded, packed), response_scores(copied, packed))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "copied" / name).read_bytes()


def test_saved_and_loaded_it_scores_the_same_to_the_last_bit(
    family_model: PreTrainedModel, tmp_path: Path
) -> None:
    model = new_scalar_model(family_model)
    model.config.reward_bias = 0.25
    save_model(tmp_path / "reward", model, None)
    again = load_scalar_model(tmp_path / "reward")
    assert torch.equal(response_scores(again, pack(TREES)), response_scores(model, pack(TREES)))


def test_a_language_model_is_no_preference_model(
    make_family: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    save_model(tmp_path / "base", make_family("llama-tied"), None)
    with pytest.raises(ModelError, match=r"lacks the weights 'score.weight'"):
        load_scalar_model(tmp_path / "base")


def test_two_labels_are_refused(
    make_family: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    config = make_family("llama-tied").config
    config.num_labels = 2
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "two")
    with pytest.raises(ModelError, match="2 labels"):
        load_scalar_model(tmp_path / "two")


@pytest.fixture(scope="module")
def scorer() -> ModelScorer:
    tokenizer = train_tokenizer(["a b c d Human Assistant"], vocabulary_size=270)
    base = new_language_model(
        Architecture(width=32, layers=2, heads=2, mlp_width=48, named_vocabulary=270),
        vocabulary_size=len(tokenizer),
        context_length=80,
        seed=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return ModelScorer(new_scalar_model(base), tokenizer, max_batch_tokens=64)


def score_alone(scorer: ModelScorer, prompt: Dialogue, response: str) -> float:
    before = encode_prompt(scorer.tokenizer, prompt)
    ids = encode_response(scorer.tokenizer, prompt, response)
    states = scorer.model.base_model(torch.tensor([before + ids])).last_hidden_state
    return float(scorer.model.score(states)[0, -1, 0])


def test_the_scorer_keeps_the_order_of_its_dialogues(scorer: ModelScorer) -> None:
    cases = [(ask("a b"), "c"), (ask("d"), "d d d d d"), (ask("a b"), "b a"), (ask("c"), "a")]
    with torch.no_grad():
        expected = [score_alone(scorer, prompt, response) for prompt, response in cases]
    got = scorer([answered(prompt, response) for prompt, response in cases])
    assert got.dtype == torch.float32
    assert got.tolist() == pytest.approx(expected, abs=1e-5)
    assert len(set(got.tolist())) == 4
    assert scorer([]).shape == (0,)


def test_the_scorer_reads_the_end_of_long_prompts_and_counts_them(scorer: ModelScorer) -> None:
    cut_before = scorer.truncated
    # Both prompts end alike and both are longer than the context.
    first, second = (answered(ask(word * 90 + "abc" * 40), "c") for word in ("x", "y"))
    scores = scorer([first, second])
    assert scores[0] == scores[1]
    assert scorer.truncated == cut_before + 2


def test_the_scorer_takes_an_empty_response_and_refuses_a_question(scorer: ModelScorer) -> None:
    assert torch.isfinite(scorer([answered(ask("a"), "")])).all()
    with pytest.raises(DataError, match="dialogue 0 .* assistant turn"):
        scorer([ask("a")])


def test_a_response_too_long_for_the_context_is_an_error_or_is_cut(scorer: ModelScorer) -> None:
    too_long = answered(ask("a"), "b " * 90)
    with pytest.raises(ModelError, match="the response of dialogue 0 has 91 tokens"):
        scorer([too_long])
    assert (scorer.fits(too_long), scorer.fits(answered(ask("a"), "b"))) == (False, True)
    cutting = ModelScorer(scorer.model, scorer.tokenizer, long_responses="cut")
    same_beginning = answered(ask("a"), "b " * 90 + "c")
    scores = cutting([too_long, same_beginning])
    assert cutting.responses_cut == 2
    assert float(scores[0]) == pytest.approx(float(scores[1]), abs=1e-5)
