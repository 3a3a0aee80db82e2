import math

import pytest
import torch

from hark.errors import DataError, ModelError
from hark.evaluation.language_loss import language_loss, windows

TEXTS = ["the cat sat on the mat", "the dog ran to the park while the sun was out", "the sun"]


def test_a_model_of_equal_chances_loses_the_logarithm_of_its_vocabulary(make_model, tokenizer):
    model = make_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    result = language_loss(model, tokenizer, TEXTS)
    tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS)
    size = sum(len(text.encode()) for text in TEXTS)
    entropy = math.log(model.config.vocab_size)
    assert result.per_token.value == pytest.approx(entropy, rel=1e-6)
    assert result.per_byte.value == pytest.approx(entropy * tokens / size, rel=1e-6)
    assert result.bits_per_byte == pytest.approx(result.per_byte.value / math.log(2))
    assert result.perplexity == pytest.approx(model.config.vocab_size, rel=1e-5)
    assert (result.tokens, result.documents) == (tokens, 3)


def test_the_loss_is_that_of_one_plain_forward_pass_for_each_document(make_model, tokenizer):
    model = make_model()
    total, count = 0.0, 0
    for text in TEXTS:
        ids = [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        row = torch.tensor([ids])
        with torch.no_grad():
            logprobs = model(row).logits[0, :-1].log_softmax(-1)
        total -= logprobs.gather(1, row[0, 1:, None]).sum().item()
        count += len(ids) - 1
    result = language_loss(model, tokenizer, TEXTS, batch_tokens=32)
    assert result.per_token.value == pytest.approx(total / count, rel=1e-5)


def test_windows_predict_every_token_once_from_the_token_before():
    trees = list(windows(range(10, 17), start=1, length=4))
    assert [tree.prompt for tree in trees] == [(1,), (12,), (15,)]
    assert [tree.responses for tree in trees] == [((10, 11, 12),), ((13, 14, 15),), ((16,),)]


def test_documents_longer_than_the_context_are_read_to_their_end(make_model, tokenizer):
    text = " ".join(TEXTS * 5)
    result = language_loss(make_model(context=16), tokenizer, [text])
    assert result.tokens == len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert result.per_token.state == "one cluster"


def test_the_interval_is_clustered_by_document_and_empty_ones_are_left_out(make_model, tokenizer):
    seen = []
    result = language_loss(
        make_model(), tokenizer, [*TEXTS, ""], batch_tokens=32, on_progress=seen.append
    )
    assert (result.per_token.clusters, result.documents) == (3, 3)
    assert result.per_token.low < result.per_token.value < result.per_token.high
    assert sum(seen) == result.tokens


def test_a_model_keeps_its_mode(make_model, tokenizer):
    model = make_model()
    model.train()
    language_loss(model, tokenizer, TEXTS[:1])
    assert model.training


def test_a_loss_that_is_not_finite_is_an_error(make_model, tokenizer):
    model = make_model()
    with torch.no_grad():
        model.get_output_embeddings().weight[5] = math.nan
    with pytest.raises(ModelError, match="3 of 3 documents is not finite, the first is document 0"):
        language_loss(model, tokenizer, TEXTS)


def test_no_text_is_an_error(make_model, tokenizer):
    with pytest.raises(DataError, match="none of the 2 documents has any text"):
        language_loss(make_model(), tokenizer, ["", ""])
