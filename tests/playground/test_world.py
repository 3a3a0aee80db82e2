from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from hark.data.formats import read_demonstrations, read_prompts, read_texts
from hark.playground.authors import blemished_prompts, prompts
from hark.playground.demonstrations import demonstrations, few_shot_examples
from hark.playground.gold import grade
from hark.playground.tasks import FAMILY_SHARES, Split, read_prompt, split_text
from hark.playground.text import pretraining_texts
from hark.playground.world import PlaygroundSettings, write_world

SMALL = PlaygroundSettings(
    pretraining_texts=200,
    heldout_texts=50,
    demonstrations=800,
    heldout_demonstrations=100,
    preference_prompts=300,
    ppo_prompts=500,
    evaluation_prompts=150,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world")
    write_world(path, SMALL)
    return path


def test_the_files_hold_what_the_settings_ask_for(directory: Path) -> None:
    sizes = {
        "pretraining": len(read_texts(directory / "pretraining.jsonl")),
        "pretraining-heldout": len(read_texts(directory / "pretraining-heldout.jsonl")),
        "demonstrations": len(read_demonstrations(directory / "demonstrations.jsonl")),
        "demonstrations-heldout": len(
            read_demonstrations(directory / "demonstrations-heldout.jsonl")
        ),
        "preference-prompts": len(read_prompts(directory / "preference-prompts.jsonl")),
        "ppo-prompts": len(read_prompts(directory / "ppo-prompts.jsonl")),
        "evaluation-prompts": len(read_prompts(directory / "evaluation-prompts.jsonl")),
        "ppo-prompts-harmful": len(read_prompts(directory / "ppo-prompts-harmful.jsonl")),
        "ppo-prompts-harmless": len(read_prompts(directory / "ppo-prompts-harmless.jsonl")),
    }
    assert sizes == write_world(directory, SMALL)
    assert list(sizes.values())[:-2] == [200, 50, 800, 100, 300, 500, 150]
    assert sizes["ppo-prompts-harmful"] + sizes["ppo-prompts-harmless"] == sizes["ppo-prompts"]
    assert 0.15 * 500 < sizes["ppo-prompts-harmful"] < 0.3 * 500
    assert {path.stem for path in directory.iterdir()} == set(sizes)


def test_no_evaluation_request_and_no_author_is_in_another_file(directory: Path) -> None:
    held = {
        name: read(directory / f"{name}.jsonl")
        for name, read in (
            ("evaluation-prompts", read_prompts),
            ("demonstrations-heldout", read_demonstrations),
            ("demonstrations", read_demonstrations),
            ("preference-prompts", read_prompts),
            ("ppo-prompts", read_prompts),
        )
    }
    cores = {
        name: {split_text(record.prompt[-1].content)[0] for record in records}
        for name, records in held.items()
    }
    users = {name: {record.user for record in records} for name, records in held.items()}
    for name in held:
        for other in ("evaluation-prompts", "demonstrations-heldout"):
            if name != other:
                assert not cores[name] & cores[other]
                assert not users[name] & users[other]


def test_the_parts_of_evaluation_requests_are_known_from_training() -> None:
    def words(split: Split, n: int) -> list[str]:
        return [
            word
            for prompt in prompts(n, 0, split=split)
            for word in re.findall(r"\w+", prompt.prompt[0].content)
        ]

    known, asked = set(words("train", 4000)), words("evaluation", 300)
    assert sum(word in known for word in asked) / len(asked) > 0.995


def test_everything_is_a_function_of_the_seed() -> None:
    assert demonstrations(20, 3) == demonstrations(20, 3)
    assert demonstrations(20, 3) != demonstrations(20, 4)
    assert [p.prompt for p in prompts(20, 3)] == [p.prompt for p in prompts(30, 3)][:20]
    assert pretraining_texts(20, 3) == pretraining_texts(40, 3)[:20]
    assert pretraining_texts(20, 3) != pretraining_texts(20, 4)


def test_the_world_is_small_enough_for_a_tiny_model() -> None:
    texts = pretraining_texts(3000, 0)
    said = " ".join([t.text for t in texts] + [d.response for d in demonstrations(1000, 0)])
    assert len(set(re.findall(r"[a-z']+|\d+", said.lower()))) < 1200
    assert 180 < sum(len(t.text) for t in texts) / len(texts) < 240
    lengths = sorted(len(d.response.split()) for d in demonstrations(1000, 0))
    assert lengths[990] <= 60
    assert max(len(p.prompt[0].content.split()) for p in prompts(1000, 0)) <= 30


def test_families_come_in_their_shares() -> None:
    assert sum(FAMILY_SHARES.values()) == pytest.approx(1.0)
    tasks = [read_prompt(p.prompt) for p in prompts(4000, 1)]
    counts = Counter(task.family for task in tasks if task)
    assert sum(counts.values()) == 4000
    for family, share in FAMILY_SHARES.items():
        # drawing without repeats thins out the smallest families a little
        assert counts[family] / 4000 == pytest.approx(share, abs=0.03)


def test_authors_have_a_long_tail() -> None:
    asked = prompts(4000, 0)
    counts = Counter(p.user for p in asked)
    assert sum(count > 200 for count in counts.values()) >= 2
    assert sum(count <= 5 for count in counts.values()) > 100
    assert len({p.prompt for p in asked}) == 4000


def test_blemishes_come_with_the_truth() -> None:
    clean, blemished = prompts(1000, 5), blemished_prompts(1000, 5)
    personal = re.compile(r"@|555-")
    for i, (before, after) in enumerate(zip(clean, blemished.prompts, strict=True)):
        assert (personal.search(after.prompt[0].content) is not None) == (i in blemished.personal)
        if i in blemished.duplicate_of:
            original = blemished.prompts[blemished.duplicate_of[i]]
            assert split_text(after.prompt[0].content) == split_text(original.prompt[0].content)
            assert after.prompt != original.prompt
        elif i not in blemished.personal:
            assert after == before
        assert read_prompt(after.prompt) is not None
    assert 25 <= len(blemished.duplicate_of) <= 75
    assert 8 <= len(blemished.personal) <= 35


def test_contractors_are_good_most_of_the_time_but_not_all() -> None:
    written = demonstrations(1500, 1)
    grades: dict[str, list[float]] = {}
    harmful = []
    for d in written:
        graded = grade(d.prompt, d.response)
        grades.setdefault(d.labeler or "", []).append(graded.overall)
        task = read_prompt(d.prompt)
        if task is not None and task.family == "harmful":
            harmful.append(graded.harmlessness < 0.1)
    assert len(grades) == 12
    means = {name: sum(values) / len(values) for name, values in grades.items()}
    assert max(means.values()) - min(means.values()) > 0.05
    assert 0.3 < sum(harmful) / len(harmful) < 0.45


def test_few_shot_examples_are_perfect_and_varied() -> None:
    examples = few_shot_examples(5, 0)
    assert all(grade(e.prompt, e.response).overall > 0.88 for e in examples)
    families = [task.family for e in examples if (task := read_prompt(e.prompt))]
    assert len(set(families)) == 5
    assert "harmful" in families
    assert len(few_shot_examples(14, 0)) == 14
    assert few_shot_examples(1, 0) != few_shot_examples(1, 1)
