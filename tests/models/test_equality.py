"""Packed rows with shared prompts against plain padded ones, through what training calls.

The other side is transformers alone: each response in a right-padded row of its own, its prompt
repeated, under a [N, T] mask, and the losses written out. Values, scores and the gradients of all
parameters agree to 1e-5 of each tensor's norm, for every family in every layout it can have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.records import Question, ask
from hark.evaluation.likelihood import sequence_logprobs
from hark.evaluation.multiple_choice import option_likelihoods
from hark.models.best_of_n import keep_best
from hark.models.cpu_linear import LENGTHS_PER_OCTAVE, filled_up
from hark.models.packing import PromptTree
from hark.models.scalar_head import ModelScorer, new_scalar_model
from hark.training import preference, sft
from hark.training.kl import AdaptiveKL
from hark.training.ppo_passes import minibatches, reference_logprobs, token_values_of
from hark.training.ppo_settings import PPOSettings
from hark.training.ppo_state import PPOState
from hark.training.ppo_update import UpdateReport, add_rollout_gradients
from hark.training.preference_data import PreferenceExample
from hark.training.rollout import Episodes, Rollout

TOLERANCE = 1e-5


def numbers(first: int, count: int) -> tuple[int, ...]:
    return tuple(2 + (first + 7 * place) % 59 for place in range(count))


# Mixed lengths: prompts of one token and of many, responses of one token and of many. All stay
# within the windows (32) of the families that have one.
RANKING = PromptTree(numbers(11, 9), tuple(numbers(20 + k, 1 + 2 * k) for k in range(9)))
PAIR = PromptTree(numbers(3, 5), (numbers(4, 6), numbers(9, 2)))
OF_ONE = PromptTree(numbers(40, 1), (numbers(31, 1), numbers(33, 11), numbers(39, 1)))
ALONE = PromptTree(numbers(8, 2), (numbers(1, 3),))
TREES = [RANKING, PAIR, OF_ONE, ALONE]

Outcome = tuple[Tensor, dict[str, Tensor]]
"""Numbers, and the gradients of every parameter by name."""


class Padded:
    """The responses of trees, each with its prompt in a right-padded row of its own."""

    def __init__(self, trees: Sequence[PromptTree]) -> None:
        self.pairs = [(tree.prompt, response) for tree in trees for response in tree.responses]
        rows = [torch.tensor([*prompt, *response]) for prompt, response in self.pairs]
        self.tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        self.mask = (torch.arange(self.tokens.shape[1]) < lengths[:, None]).long()

    def logprobs(self, model: PreTrainedModel, temperature: float = 1.0) -> list[Tensor]:
        """Of each response's tokens."""
        logits = model(self.tokens, attention_mask=self.mask, use_cache=False).logits / temperature
        return [
            row[len(prompt) - 1 : len(prompt) + len(response) - 1]
            .log_softmax(-1)
            .gather(-1, torch.tensor(response)[:, None])[:, 0]
            for row, (prompt, response) in zip(logits, self.pairs, strict=True)
        ]

    def scores(self, model: PreTrainedModel) -> Tensor:
        """[N] at the last token of each response."""
        return torch.stack([row[-1] for row in self._heads(model)])

    def values(self, model: PreTrainedModel) -> list[Tensor]:
        """Of the state before each response token."""
        return [
            row[len(prompt) - 1 : -1]
            for row, (prompt, _) in zip(self._heads(model), self.pairs, strict=True)
        ]

    def _heads(self, model: PreTrainedModel) -> list[Tensor]:
        states = model.base_model(self.tokens, attention_mask=self.mask).last_hidden_state
        heads = model.score(states)[..., 0]
        return [
            row[: len(prompt) + len(response)]
            for row, (prompt, response) in zip(heads, self.pairs, strict=True)
        ]


def take_gradients(*models: PreTrainedModel) -> dict[str, Tensor]:
    """The gradients of all parameters, which are then zero again."""
    found = {}
    for number, model in enumerate(models):
        for name, parameter in model.named_parameters():
            # Hugging Face's last layers of a trunk without a head have none.
            found[f"{number}.{name}"] = (
                torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            )
        model.zero_grad()
    return found


def assert_equal(got: Tensor, expected: Tensor) -> None:
    got, expected = got.detach().double(), expected.detach().double()
    assert got.shape == expected.shape
    assert float((got - expected).norm()) <= TOLERANCE * float(expected.norm())


def assert_equal_gradients(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Each relative to its own norm; the few that are zero but for rounding, such as that of a
    key's bias, which no softmax sees, relative to the largest norm."""
    assert got.keys() == expected.keys()
    largest = max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in expected.items():
        norm, error = float(gradient.norm()), float((got[name] - gradient).norm())
        assert error <= TOLERANCE * (norm if norm > 1e-6 * largest else largest), name


@contextlib.contextmanager
def reading(*models: PreTrainedModel) -> Iterator[list[int]]:
    """The sizes [R·T] of all forward passes within the block."""
    sizes: list[int] = []
    handles = [
        model.get_input_embeddings().register_forward_hook(
            lambda module, inputs, output: sizes.append(inputs[0].numel())
        )
        for model in models
    ]
    yield sizes
    for handle in handles:
        handle.remove()


def assert_reads(sizes: Sequence[int], layout: str, trees: Sequence[PromptTree]) -> None:
    """Each prompt is read once and hardly any padding; or what the layout has to read."""
    once = sum(tree.tokens for tree in trees)
    repeated = sum(len(t.prompt) + len(response) for t in trees for response in t.responses)
    if layout == "by tree":
        assert once <= sum(sizes) <= once * (1 + 1 / LENGTHS_PER_OCTAVE)
        assert all(size == filled_up(size) for size in sizes)
    elif layout == "in rows":
        # Rows as wide as the longest tree, rounded up to 8, and filled as far as the others go.
        assert once <= sum(sizes) < repeated
    else:
        assert sum(sizes) >= repeated


def test_sft_loss(laid_out: Any) -> None:
    model = laid_out.language_model()
    demonstrations = [*one_response_each(PAIR), *one_response_each(RANKING)[2:5], ALONE]
    pieces = one_response_each(OF_ONE)
    expected = -torch.cat(Padded([*demonstrations, *pieces]).logprobs(model)).sum()
    expected.backward()
    expected_gradients = take_gradients(model)
    for limit in (1000, 40):
        parts = sft.micro_batches(model, demonstrations, pieces, limit=limit)
        losses = []
        for part in parts:
            loss = sft.batch_loss(model, part.batch).loss
            loss.backward()
            losses.append(loss.detach())
        assert (len(parts) == 1) == (limit == 1000)
        assert_equal(torch.stack(losses).sum(), expected)
        assert_equal_gradients(take_gradients(model), expected_gradients)


def one_response_each(tree: PromptTree) -> list[PromptTree]:
    return [PromptTree(tree.prompt, (response,)) for response in tree.responses]


def example(tree: PromptTree, *, weight: float) -> PreferenceExample:
    """The first response is the best, the second the second best, and so on."""
    pairs = [(i, j) for j in range(len(tree.responses)) for i in range(j)]
    return PreferenceExample(
        tree=tree, first=tuple(i for i, _ in pairs), second=tuple(j for _, j in pairs),
        probabilities=(1.0,) * len(pairs), best=0, weight=weight, required_margin=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("loss", ["ranking", "best_of_k"])
@pytest.mark.parametrize(
    "trees", [[PAIR], [RANKING, PAIR, OF_ONE]], ids=["a pair", "rankings of nine, two and three"]
)
def test_preference_loss(laid_out: Any, trees: list[PromptTree], loss: Any) -> None:
    model = laid_out.scalar_model()
    examples = [example(tree, weight=1.0 + place) for place, tree in enumerate(trees)]
    expected = torch.zeros(())
    scores = Padded(trees).scores(model).split([len(tree.responses) for tree in trees])
    for one, own in zip(examples, scores, strict=True):
        if loss == "ranking":
            gaps = own[list(one.first)] - own[list(one.second)]
            expected = expected + one.weight * F.softplus(-gaps).mean()
        else:
            expected = expected - one.weight * own.log_softmax(0)[0]
    expected.backward()
    expected_gradients = take_gradients(model)
    with reading(model) as sizes:
        (part,) = preference.micro_batches(model, examples, limit=1000)
        got = preference.batch_loss(model, part.batch, loss=loss).loss
    got.backward()
    assert_reads(sizes, laid_out.layout, trees)
    assert_equal(got, expected)
    assert_equal_gradients(take_gradients(model), expected_gradients)


THREE_SAMPLES = [
    PromptTree(RANKING.prompt, RANKING.responses[1:4]),
    OF_ONE,
    PromptTree(PAIR.prompt, (*PAIR.responses, numbers(50, 1))),
    PromptTree(numbers(17, 3), (numbers(2, 9), numbers(22, 4), numbers(42, 1))),
]


def ppo_settings(**given: Any) -> PPOSettings:
    """One minibatch of the twelve episodes of `THREE_SAMPLES`."""
    return PPOSettings.parse(
        {
            "model": "here", "preference_model": "here", "data": "here", "total_episodes": 12,
            "batch_episodes": 12, "minibatch_episodes": 12, "responses_per_prompt": 3,
            "temperature": 0.7, **given,
        }
    )  # fmt: skip


def ppo_state(policy: PreTrainedModel, critic: PreTrainedModel, words: Any) -> PPOState:
    return PPOState(
        tokenizer=words, policy=policy, reference=policy, critic=critic, shares_trunk=False,
        average=None, average_adapter=None, policy_optimizer=torch.optim.SGD(policy.parameters()),
        value_optimizer=torch.optim.SGD(critic.parameters()),
        controller=AdaptiveKL(coefficient=0.1, target=None),
    )  # fmt: skip


def episodes_of(trees: Sequence[PromptTree]) -> Episodes:
    pairs = [
        (tree.prompt, response, number)
        for number, tree in enumerate(trees)
        for response in tree.responses
    ]
    tokens = sum(len(response) for _, response, _ in pairs)
    return Episodes(
        dialogues=(ask("w2"),) * len(pairs), prompts=tuple(prompt for prompt, _, _ in pairs),
        prompt_of=tuple(number for _, _, number in pairs),
        responses=tuple(response for _, response, _ in pairs), texts=("",) * len(pairs),
        is_complete=torch.ones(len(pairs), dtype=torch.bool), logprobs=torch.zeros(tokens),
    )  # fmt: skip


@pytest.mark.parametrize("micro_batch_tokens", [1000, 20])
def test_ppo_with_three_samples_a_prompt(
    laid_out: Any, words: PreTrainedTokenizerBase, micro_batch_tokens: int
) -> None:
    policy, critic = laid_out.language_model(), laid_out.scalar_model(seed=1)
    padded, episodes = Padded(THREE_SAMPLES), episodes_of(THREE_SAMPLES)
    logprobs = torch.cat(padded.logprobs(policy, temperature=0.7))
    values = torch.cat(padded.values(critic))
    draw = torch.Generator().manual_seed(0)

    def near(tensor: Tensor, spread: float) -> Tensor:
        return tensor.detach() + spread * torch.randn(tensor.shape, generator=draw)

    # Far enough that some ratios and values are clipped.
    old, old_values = near(logprobs, 0.3), near(values, 0.3)
    advantages, returns = near(torch.zeros_like(values), 1.0), near(values, 1.0)
    ratio = (logprobs - old).exp()
    policy_loss = -torch.minimum(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
    clipped = old_values + (values - old_values).clamp(-0.2, 0.2)
    value_loss = torch.maximum((values - returns) ** 2, (clipped - returns) ** 2).mean() / 2
    (policy_loss + value_loss).backward()
    expected_gradients = take_gradients(policy, critic)

    settings = ppo_settings(micro_batch_tokens=micro_batch_tokens)
    state = ppo_state(policy, critic, words)
    with reading(policy, critic) as sizes:
        (minibatch,) = epoch = minibatches(episodes, state.readers, settings, step=0, epoch=0)
        assert_equal(reference_logprobs(state, epoch, settings), logprobs)
        assert_equal(token_values_of(state, epoch, settings), values)
    if micro_batch_tokens == 1000:
        assert_reads(sizes, laid_out.layout, [*THREE_SAMPLES, *THREE_SAMPLES])
    elif laid_out.layout == "by tree":
        assert max(sizes) <= micro_batch_tokens < max(tree.tokens for tree in THREE_SAMPLES)
    assert (len(minibatch.passes) == 1) == (micro_batch_tokens == 1000)
    per_response = torch.zeros(len(episodes.responses))
    rollout = Rollout(
        episodes=episodes, raw_scores=per_response, scores=per_response, behaviour_logprobs=old,
        reference_logprobs=old, values=old_values, rewards=old, advantages=advantages,
        returns=returns,
    )  # fmt: skip
    report = UpdateReport()
    add_rollout_gradients(state, rollout, minibatch, settings, report)
    means = report.means()
    assert means["policy_loss"] == pytest.approx(policy_loss.item(), rel=TOLERANCE)
    assert means["value_loss"] == pytest.approx(value_loss.item(), rel=TOLERANCE)
    assert 0 < means["clipped_share"] < 1
    assert_equal_gradients(take_gradients(policy, critic), expected_gradients)


def test_likelihoods(laid_out: Any) -> None:
    model = laid_out.language_model()
    with torch.no_grad():
        expected = torch.stack([one.sum() for one in Padded(TREES).logprobs(model)])
    for batch_tokens in (1000, 40):
        with reading(model) as sizes:
            got = sequence_logprobs(model, TREES, pad_token_id=0, batch_tokens=batch_tokens)
        assert_equal(torch.from_numpy(got), expected)
        assert laid_out.layout != "by tree" or max(sizes) <= batch_tokens


def text(tokens: Sequence[int]) -> str:
    return " ".join(f"w{token}" for token in tokens)


def test_options_of_multiple_choice(laid_out: Any, words: PreTrainedTokenizerBase) -> None:
    model = laid_out.language_model()
    trees = [RANKING, OF_ONE, PromptTree(PAIR.prompt, (*PAIR.responses, numbers(50, 1)))]
    questions = [
        Question(context=text(tree.prompt), options=tuple(map(text, tree.responses)), answer=0)
        for tree in trees
    ]
    with torch.no_grad():
        logprobs = Padded(trees).logprobs(model)
    with reading(model) as sizes:
        found = option_likelihoods(model, words, questions)
    assert_reads(sizes, laid_out.layout, trees)
    totals, rates = (
        torch.tensor([value for each in values for value in each])
        for values in ([each.totals for each in found], [each.per_token for each in found])
    )
    assert_equal(totals, torch.stack([one.sum() for one in logprobs]))
    assert_equal(rates, torch.stack([one.mean() for one in logprobs]))


@pytest.mark.parametrize("max_batch_tokens", [1000, 24])
def test_scores_of_the_best_of_n(
    laid_out: Any, words: PreTrainedTokenizerBase, max_batch_tokens: int
) -> None:
    model, n = laid_out.scalar_model(), 3
    prompts = [numbers(11, 9), numbers(40, 1), numbers(3, 5)]
    drawn = [numbers(20 + 5 * i + k, 1 + 4 * k) for i in range(3) for k in range(n)]
    trees = [
        PromptTree(prompt, tuple((*response, 1) for response in drawn[n * i : n * i + n]))
        for i, prompt in enumerate(prompts)
    ]
    with torch.no_grad():
        expected = Padded(trees).scores(model)
    scorer = ModelScorer(model, words, max_batch_tokens=max_batch_tokens)
    candidates = [_Candidate(text(response)) for response in drawn]
    with reading(model) as sizes:
        kept = keep_best([ask(text(prompt)) for prompt in prompts], candidates, scorer, n=n)
    if max_batch_tokens == 1000:
        assert_reads(sizes, laid_out.layout, trees)
    elif laid_out.layout == "by tree":
        assert max(sizes) <= max_batch_tokens
    assert_equal(torch.tensor([score for group in kept for score in group.scores]), expected)
    assert [group.choice for group in kept] == expected.view(3, n).argmax(1).tolist()


@dataclass(frozen=True)
class _Candidate:
    text: str


@pytest.mark.parametrize(
    ("policy", "critic"),
    [("llama-tied", "bloom-tied"), ("opt-tied", "llama-tied"), ("llama-tied", "gemma2-tied")],
)
def test_a_critic_of_another_family_than_the_policy(
    make_family: Any, words: PreTrainedTokenizerBase, policy: str, critic: str
) -> None:
    state = ppo_state(make_family(policy), new_scalar_model(make_family(critic)), words)
    settings = ppo_settings(micro_batch_tokens=1000)
    epoch = minibatches(episodes_of(THREE_SAMPLES), state.readers, settings, step=0, epoch=0)
    padded = Padded(THREE_SAMPLES)
    with torch.no_grad():
        values, logprobs = padded.values(state.critic), padded.logprobs(state.policy, 0.7)
    assert_equal(token_values_of(state, epoch, settings), torch.cat(values))
    assert_equal(reference_logprobs(state, epoch, settings), torch.cat(logprobs))
