import math

import pytest
import torch

from hark.errors import HarkError
from hark.evaluation.divergence import (
    best_of_n_divergence,
    divergence_from_logprobs,
)
from hark.evaluation.likelihood import sequence_logprobs
from hark.models.packing import PromptTree


def test_sum_over_tokens_and_mean_over_responses_worked_by_hand():
    # log π − log π₀ = 2 and 4 nats over 2 and 4 tokens: 3 nats a response, 1 nat a token.
    result = divergence_from_logprobs([-3.0, -5.0], [-5.0, -9.0], [2, 4])
    assert result.per_response.value == pytest.approx(3.0)
    assert result.per_token.value == pytest.approx(1.0)


def test_several_replies_to_a_prompt_are_one_cluster():
    result = divergence_from_logprobs(
        [-1.0, -2.0, -1.5, -3.0], [-2.0] * 4, [1] * 4, prompts=["p", "p", "q", "q"]
    )
    assert result.per_response.clusters == 2


@pytest.mark.parametrize(("n", "nats"), [(1, 0.0), (4, 0.636), (16, 1.835), (64, 3.175)])
def test_best_of_n_has_the_published_values(n, nats):
    assert best_of_n_divergence(n) == pytest.approx(nats, abs=5e-4)


def measured(policy, reference, trees):
    own, theirs = (
        sequence_logprobs(each, trees, pad_token_id=0, batch_tokens=8192)
        for each in (policy, reference)
    )
    lengths = [len(response) for tree in trees for response in tree.responses]
    prompts = [tree.prompt for tree in trees for _ in tree.responses]
    return divergence_from_logprobs(own, theirs, lengths, prompts=prompts)


def test_a_policy_is_at_no_distance_from_itself(make_model):
    model = make_model()
    trees = [PromptTree((3, 4), ((5, 6, 7), (8,))), PromptTree((9,), ((10, 11),))]
    result = measured(model, model, trees)
    assert result.per_response.value == 0.0
    assert (result.per_response.n, result.per_response.clusters) == (3, 2)


def test_the_estimate_approaches_the_exact_divergence_on_the_policys_own_samples(make_model):
    policy, reference = make_model(seed=0), make_model(seed=1)
    with torch.no_grad():
        for model in (policy, reference):  # spread the logits so that there is something to see
            model.get_output_embeddings().weight.mul_(4)
        prompt = torch.tensor([[3, 4, 5]])
        ours = policy(prompt).logits[0, -1].log_softmax(-1)
        theirs = reference(prompt).logits[0, -1].log_softmax(-1)
    exact = (ours.exp() * (ours - theirs)).sum().item()
    drawn = torch.multinomial(
        ours.exp(), 2000, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    trees = [PromptTree((3, 4, 5), tuple((int(token),) for token in drawn))]
    unclustered = divergence_from_logprobs(ours[drawn], theirs[drawn], [1] * 2000).per_response
    assert unclustered.low < exact < unclustered.high
    packed = measured(policy, reference, trees).per_response
    assert packed.value == pytest.approx(unclustered.value, rel=1e-4)
    assert packed.state == "one cluster"


def test_what_is_no_number_is_refused():
    with pytest.raises(HarkError, match="1 of 2 reference log-probabilities are not finite, the f"):
        divergence_from_logprobs([-1.0, -1.0], [-1.0, -math.inf], [1, 1])
