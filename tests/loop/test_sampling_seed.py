"""Seeds of policies' draws: by name, not by place."""

from __future__ import annotations

from hark.loop.speaker import sampling_seed


def test_seeds_follow_the_name_and_do_not_meet() -> None:
    names = ["SFT", "PPO", "PPO-ptx"]
    seeds = {(seed, name): sampling_seed(seed, name) for seed in range(50) for name in names}
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds.values())
    assert sampling_seed(0, "SFT") == seeds[0, "SFT"], "the same in every process"
    assert sampling_seed(0, "SFT", "baseline") != seeds[0, "SFT"]
