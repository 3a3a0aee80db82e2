from __future__ import annotations

import math

import pytest
import torch

from hark.data.records import Question
from hark.errors import DataError, ModelError
from hark.evaluation.multiple_choice import (
    OptionLikelihoods,
    likeliest,
    multiple_choice,
    option_likelihoods,
)


def thought(totals, tokens, sizes, *, truncated=False):
    return OptionLikelihoods(
        totals=totals, tokens=tokens, sizes=sizes, context_tokens=5, truncated=truncated
    )


def question(context="the cat", options=(" sat", " ran"), answer=0):
    return Question(context=context, options=options, answer=answer)


@torch.no_grad()
def log_likelihood(model, context, option):
    """By definition, from one plain forward pass."""
    logprobs = model(torch.tensor([[*context, *option]])).logits[0].log_softmax(-1)
    return sum(float(logprobs[len(context) - 1 + i, token]) for i, token in enumerate(option))


def test_the_three_allowances_for_length_worked_by_hand():
    # Total: −2 beats −3. Per token: −2/1 and −3/2, so −1.5. Per byte: −2/4 and −3/12, so −0.25.
    long = thought((-2.0, -3.0), (1, 2), (4, 12))
    # Total: −4 and −5. Per token: −4/2 = −2 and −5/4 = −1.25. Per byte: −4/4 = −1 and −5/4.
    short = thought((-4.0, -5.0), (2, 4), (4, 4), truncated=True)
    questions = [question("one"), question("two")]
    measured = multiple_choice(questions, [long, short])
    assert measured.total.value == 1.0
    assert measured.per_token.value == 0.0
    assert measured.per_byte.value == 0.5
    assert measured.contexts_truncated == 1
    assert measured.total.n == 2


def test_chance_is_the_mean_over_questions():
    questions = [question(), question(options=(" a", " b", " c", " d"))]
    seen = [thought(tuple(-1.0 - n for n in range(k)), (1,) * k, (4,) * k) for k in (2, 4)]
    # ½ and ¼.
    assert multiple_choice(questions, seen).chance == pytest.approx(0.375)


def test_questions_on_one_context_are_one_cluster():
    right = thought((-1.0, -2.0), (1, 1), (4, 4))
    questions = [question(f"passage {n // 4}", answer=int(n % 4 == 0)) for n in range(40)]
    assert multiple_choice(questions, [right] * 40).total.clusters == 10


def test_ties_and_what_is_no_number_have_no_answer():
    assert likeliest([-3.0, -1.0, -2.0], what="question 1") == 1
    # A tie below the first place decides nothing.
    assert likeliest([-3.0, -1.0, -3.0], what="question 1") == 1
    with pytest.raises(ModelError, match="options 0 and 2 of question 4 are equally likely"):
        likeliest([-1.0, -2.0, -1.0], what="question 4")
    with pytest.raises(ModelError, match="option 1 of question 4 is nan"):
        likeliest([-1.0, math.nan], what="question 4")
    with pytest.raises(ModelError, match="option 0 of question 4 is -inf"):
        likeliest([-math.inf, -1.0], what="question 4")


def test_errors_name_the_question():
    good, bad = thought((-1.0, -2.0), (1, 1), (4, 4)), thought((-1.0, -1.0), (1, 1), (4, 4))
    with pytest.raises(ModelError, match="question 2 of 2"):
        multiple_choice([question(), question()], [good, bad])
    with pytest.raises(DataError, match="no questions"):
        multiple_choice([], [])


def test_likelihoods_are_sums_over_the_options_tokens(make_model, tokenizer):
    model = make_model()
    asked = question("the cat sat on", options=(" the mat", " a", " the park and the dog"))
    (found,) = option_likelihoods(model, tokenizer, [asked])
    context = tokenizer(asked.context)["input_ids"]
    for total, count, size, option in zip(
        found.totals, found.tokens, found.sizes, asked.options, strict=True
    ):
        ids = tokenizer(option)["input_ids"]
        assert total == pytest.approx(log_likelihood(model, context, ids), rel=1e-5)
        assert (count, size) == (len(ids), len(option))
    assert found.per_token[0] == found.totals[0] / found.tokens[0]
    assert found.per_byte[1] == found.totals[1] / 2
    assert (found.context_tokens, found.truncated) == (len(context), False)


def test_bytes_are_counted_not_characters(make_model, tokenizer):
    (found,) = option_likelihoods(make_model(), tokenizer, [question(options=(" é", " e"))])
    assert found.sizes == (3, 2)


def test_a_long_context_loses_its_beginning_for_all_options_alike(make_model, tokenizer):
    model = make_model(context=32)
    long = "the park " * 20 + "the cat sat on"
    asked = question(long, options=(" the mat", " it"))
    (found,) = option_likelihoods(model, tokenizer, [asked])
    longest = max(found.tokens)
    assert (found.truncated, found.context_tokens) == (True, 32 - longest)
    kept = tokenizer(long)["input_ids"][-(32 - longest) :]
    short = tokenizer(" it")["input_ids"]
    assert found.totals[1] == pytest.approx(log_likelihood(model, kept, short), rel=1e-5)


def test_an_option_that_fills_the_context_is_refused(make_model, tokenizer):
    with pytest.raises(ModelError, match="an option of question 2 has .* context of 32"):
        option_likelihoods(
            make_model(context=32), tokenizer, [question(), question(options=(" é" * 40, " a"))]
        )


def test_without_a_context_options_follow_the_token_that_begins_texts(make_model, tokenizer):
    model = make_model()
    (found,) = option_likelihoods(model, tokenizer, [question("")])
    ids = tokenizer(" sat")["input_ids"]
    expected = log_likelihood(model, [tokenizer.eos_token_id], ids)
    assert found.context_tokens == 1
    assert found.totals[0] == pytest.approx(expected, rel=1e-5)
