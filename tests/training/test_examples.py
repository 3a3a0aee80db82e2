from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from hark.data.records import ask
from hark.errors import DataError
from hark.models.fitting import CutCounts, cut_to_context
from hark.models.tokenizer import load_tokenizer
from hark.training.examples import Paths, encode_tree


class Holder(BaseModel):
    paths: Paths = ()


def test_one_path_several_or_none() -> None:
    assert Holder(paths="a.jsonl").paths == (Path("a.jsonl"),)
    assert Holder(paths=["a", "b"]).paths == (Path("a"), Path("b"))
    assert Holder(paths=None).paths == ()


def test_what_fits_is_left_alone() -> None:
    tree, cuts = cut_to_context([1, 2, 3], [[4, 5], [6]], context=5, long_responses="drop")
    assert tree is not None
    assert (tree.prompt, tree.responses) == ((1, 2, 3), ((4, 5), (6,)))
    assert cuts == CutCounts()


def test_a_long_prompt_keeps_its_end() -> None:
    tree, cuts = cut_to_context([1, 2, 3, 4, 5, 6], [[7, 8], [9]], context=6, long_responses="drop")
    assert tree is not None
    assert (tree.prompt, tree.responses) == ((3, 4, 5, 6), ((7, 8), (9,)))
    assert cuts == CutCounts(prompts_truncated=1)


@pytest.mark.parametrize("kept", [True, False])
def test_a_prompt_keeps_half_and_a_longer_response_is_cut_or_dropped(kept: bool) -> None:
    tree, cuts = cut_to_context(
        [1, 2, 3, 4], [[5, 6, 7, 8, 9], [10]], context=6, long_responses="cut" if kept else "drop"
    )
    if kept:
        assert tree is not None
        assert (tree.prompt, tree.responses) == ((2, 3, 4), ((5, 6, 7), (10,)))
        assert cuts == CutCounts(prompts_truncated=1, responses_cut=1)
    else:
        assert tree is None
        assert cuts == CutCounts(records_dropped=1)


def test_a_short_prompt_leaves_more_than_half_to_the_response() -> None:
    tree, _ = cut_to_context([1], [[2, 3, 4, 5, 6, 7]], context=6, long_responses="cut")
    assert tree is not None
    assert (tree.prompt, tree.responses) == ((1,), ((2, 3, 4, 5, 6),))


def test_empty_responses(language_model: Path) -> None:
    tokenizer = load_tokenizer(language_model)
    tree, _ = encode_tree(
        tokenizer, ask("cat"), [""], context=64, long_responses="drop", where="r", allow_empty=True
    )
    assert tree is not None
    assert tree.responses == ((tokenizer.eos_token_id,),)
    with pytest.raises(DataError, match="record 3 of 'd.jsonl'.*zero tokens"):
        encode_tree(
            tokenizer, ask("cat"), [" "], context=64, long_responses="drop",
            where="record 3 of 'd.jsonl'", allow_empty=False,
        )  # fmt: skip
