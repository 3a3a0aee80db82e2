import torch

from hark.data.records import ask
from hark.training.ppo_episodes import (
    EncodedPrompt,
    encode_prompts,
    endless_order,
    judge,
    prompts_of_step,
    sample,
)
from hark.training.ppo_passes import minibatches


def episodes_of(ppo_world, settings, *, step=0):
    state = ppo_world.state(settings)
    state.step = step
    encoded = encode_prompts(ppo_world.prompts, state.tokenizer, settings, context=48)
    return state, sample(state, prompts_of_step(encoded.prompts, settings, step), settings)


def test_the_endless_order_visits_all_before_any_twice():
    first = endless_order(0, 5, total=5, seed=1)
    assert sorted(first) == [0, 1, 2, 3, 4]
    # Any window of it is the same however it is cut.
    whole = endless_order(0, 17, total=5, seed=1)
    parts = [endless_order(start, 3, total=5, seed=1) for start in range(0, 15, 3)]
    assert [item for part in parts for item in part] == whole[:15]
    assert whole[:5] != whole[5:10] or whole[5:10] != whole[10:15]
    assert endless_order(0, 50, total=50, seed=1) != endless_order(0, 50, total=50, seed=2)


def test_prompts_go_on_where_the_step_before_ended(ppo_world):
    settings = ppo_world.settings(responses_per_prompt=2)
    prompts = [EncodedPrompt(dialogue=ask(str(n)), tokens=(n,)) for n in range(20)]
    steps = [prompts_of_step(prompts, settings, step) for step in range(5)]
    assert [len(step) for step in steps] == [8] * 5
    shown = [prompt.tokens[0] for step in steps for prompt in step]
    assert sorted(shown[:20]) == sorted(shown[20:]) == list(range(20))


def test_samples_are_a_function_of_seed_and_step(ppo_world):
    settings = ppo_world.settings()
    state, one = episodes_of(ppo_world, settings)
    _, again = episodes_of(ppo_world, settings)
    assert one.responses == again.responses
    # The same prompts and policy one step later draw other numbers.
    prompts = [
        EncodedPrompt(dialogue=dialogue, tokens=tokens)
        for dialogue, tokens in zip(one.dialogues, one.prompts, strict=True)
    ]
    state.step = 1
    later = sample(state, prompts, settings)
    assert later.prompts == one.prompts
    assert not set(later.responses) & set(one.responses)
    assert one.logprobs.shape == (int(one.lengths.sum()),)


def test_responses_to_one_prompt_differ_and_stay_together(ppo_world):
    settings = ppo_world.settings(responses_per_prompt=4)
    state, episodes = episodes_of(ppo_world, settings)
    assert episodes.prompt_of == (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)
    assert len(set(episodes.responses)) > 12
    epoch = minibatches(episodes, state.readers, settings, step=0, epoch=0)
    counts = [sum(one.batch.response_count for one in minibatch.passes) for minibatch in epoch]
    assert counts == [8, 8]
    # Four responses share one prompt: fewer tokens than four prompts.
    passes = [one for minibatch in epoch for one in minibatch.passes]
    computed = sum(int(one.batch.is_token.sum()) for one in passes)
    prompts = sum(len(episodes.prompts[first]) for first in (0, 4, 8, 12))
    assert computed == prompts + int(episodes.lengths.sum())


def test_every_epoch_has_each_token_once_in_a_fresh_order(ppo_world):
    settings = ppo_world.settings(micro_batch_tokens=64)
    state, episodes = episodes_of(ppo_world, settings)
    tokens = torch.tensor([token for response in episodes.responses for token in response])
    orders = []
    for step, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        passes = [
            one
            for minibatch in minibatches(episodes, state.readers, settings, step=step, epoch=epoch)
            for one in minibatch.passes
        ]
        places = torch.cat([one.places for one in passes])
        assert sorted(places.tolist()) == list(range(len(tokens)))
        for one in passes:
            assert torch.equal(tokens[one.places], one.batch.targets)
        orders.append(places.tolist())
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_a_response_without_an_end_gets_the_replacement(ppo_world):
    settings = ppo_world.settings(incomplete_score=-2.5, reward_bias=0.5)
    state, episodes = episodes_of(ppo_world, settings)
    end = state.tokenizer.eos_token_id
    ended = torch.tensor([response[-1] == end for response in episodes.responses])
    assert torch.equal(episodes.is_complete, ended)
    raw, scores = judge(state, episodes, ppo_world.letters, settings)
    assert (scores[~ended] == -2.5).all()
    assert torch.equal(scores[ended], raw[ended])
    letters = [sum("a" <= c <= "z" for c in text) for text in episodes.texts]
    assert raw.tolist() == [count + 0.5 for count in letters]


def test_truncation_is_for_the_scorer_only(ppo_world):
    # As Ziegler's: a fixed length is sampled and trained on; the scorer reads up to the first
    # token with the stop text from a position on.
    settings = ppo_world.settings(
        max_response_tokens=24,
        min_response_tokens=24,
        score_until="a",
        score_until_from=4,
        batch_episodes=64,
        total_episodes=64,
    )
    state, episodes = episodes_of(ppo_world, settings)
    assert (episodes.lengths == 24).all()
    letter = state.tokenizer.encode("a")[0]
    cut = 0
    for response, text, is_complete in zip(
        episodes.responses, episodes.texts, episodes.is_complete.tolist(), strict=True
    ):
        stops = [place for place in range(4, len(response)) if response[place] == letter]
        assert is_complete == bool(stops)
        if stops:
            cut += 1
            assert text == state.tokenizer.decode(response[: stops[0] + 1]).strip()
    assert cut > 0
