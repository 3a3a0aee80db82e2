import pytest
import torch

from hark.data.records import Message, answered, ask
from hark.errors import DataError
from hark.evaluation.likelihood import sequence_logprobs
from hark.evaluation.reply_likelihood import recalling, reply_likelihoods
from hark.models.tokenizer import encode_prompt, encode_response

DIALOGUES = [
    answered(ask("the cat"), "sat on the mat"),
    answered(ask("the cat"), "ran"),
    answered((*ask("the sun"), Message("assistant", "was out"), Message("user", "and")), "the dog"),
]


def plain(model, tokenizer, prompt, reply, question) -> tuple[float, int]:
    """Log-probability of a reply by one plain forward pass, and its number of tokens."""
    before = encode_prompt(tokenizer, question)
    tokens = encode_response(tokenizer, prompt, reply)
    row = torch.tensor([[*before, *tokens]])
    with torch.no_grad():
        logprobs = model(row).logits[0, :-1].log_softmax(-1)
    of_all = logprobs.gather(1, row[0, 1:, None]).squeeze(1)
    return of_all[len(before) - 1 :].sum().item(), len(tokens)


def test_sums_means_and_mutual_information_are_those_of_plain_passes(make_model, tokenizer):
    model = make_model(context=64)
    dialogues = [DIALOGUES[0], DIALOGUES[2], DIALOGUES[1]]
    found = reply_likelihoods(model, tokenizer, dialogues)
    for place, dialogue in enumerate(dialogues):
        prompt, reply = dialogue[:-1], dialogue[-1].content
        total, count = plain(model, tokenizer, prompt, reply, prompt)
        alone, _ = plain(model, tokenizer, prompt, reply, ask(""))
        assert found.total[place] == pytest.approx(total, rel=1e-5)
        assert found.per_token[place] == pytest.approx(total / count, rel=1e-5)
        assert found.mutual_information[place] == pytest.approx(total - alone, abs=1e-4)


def test_a_prompt_is_read_once_for_all_its_replies(make_model, tokenizer, monkeypatch):
    read = []

    def noting(model, trees, **settings):
        read.append([len(tree.responses) for tree in trees])
        return sequence_logprobs(model, trees, **settings)

    monkeypatch.setattr("hark.evaluation.reply_likelihood.sequence_logprobs", noting)
    reply_likelihoods(make_model(context=64), tokenizer, DIALOGUES)
    assert read == [[2, 1], [3]]


def test_scores_are_recalled_in_any_order(make_model, tokenizer):
    score = recalling(DIALOGUES, torch.tensor([1.0, 2.0, 3.0]).numpy())
    assert score([DIALOGUES[2], DIALOGUES[0], DIALOGUES[2]]) == [3.0, 1.0, 3.0]


def test_a_reply_longer_than_the_context_is_named(make_model, tokenizer):
    with pytest.raises(DataError, match="the reply of dialogue 1 has .* tokens, more than"):
        reply_likelihoods(
            make_model(), tokenizer, [DIALOGUES[1], answered(ask("the"), "the cat sat " * 30)]
        )
