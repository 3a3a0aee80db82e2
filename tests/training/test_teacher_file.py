from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hark.errors import RunError
from hark.models.packing import PromptTree
from hark.training.teacher_file import Taught, TeacherFile
from hark.training.top_classes import TopClasses, top_classes


def taught(number: int, *, tokens: int = 3) -> Taught:
    draw = torch.Generator().manual_seed(number)
    logits = 5 * torch.randn(tokens, 300, generator=draw)
    tree = PromptTree((number, 299), (tuple(range(tokens)),))
    return Taught(tree=tree, classes=top_classes(logits, 4))


def same(first: Taught, second: Taught) -> bool:
    of_first, of_second = first.classes, second.classes
    pairs = (
        (of_first.ids, of_second.ids),
        (of_first.logprobs, of_second.logprobs),
        (of_first.rest, of_second.rest),
    )
    return first.tree == second.tree and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("vocabulary", [300, 70_000])
def test_what_is_read_back_is_what_was_written(tmp_path: Path, vocabulary: int) -> None:
    path = tmp_path / "teacher.bin"
    file = TeacherFile.open(path, classes=4, vocabulary=vocabulary)
    file.append([taught(0), taught(1, tokens=1)])
    assert same(file[1], taught(1, tokens=1))
    file.append([taught(2, tokens=5)])
    again = TeacherFile.open(path, classes=4, vocabulary=vocabulary)
    assert (len(again), again.predicted_tokens) == (3, 9)
    for number, tokens in ((0, 3), (1, 1), (2, 5)):
        assert same(again[number], taught(number, tokens=tokens))
        assert same(file[number], again[number])


def test_a_torn_block_is_written_again_and_the_file_ends_the_same(tmp_path: Path) -> None:
    blocks = [[taught(0), taught(1)], [taught(2)]]
    whole = TeacherFile.open(tmp_path / "whole.bin", classes=4, vocabulary=300)
    for block in blocks:
        whole.append(block)
    written = whole.path.read_bytes()
    before_lengths = whole.places[2].offset - 20
    for end in (before_lengths, len(written) - 1, len(written) - 30):
        torn = tmp_path / "torn.bin"
        torn.write_bytes(written[:end])
        file = TeacherFile.open(torn, classes=4, vocabulary=300)
        assert len(file) == 2
        file.append(blocks[1])
        assert torn.read_bytes() == written


def test_a_damaged_block_does_not_count(tmp_path: Path) -> None:
    file = TeacherFile.open(tmp_path / "teacher.bin", classes=4, vocabulary=300)
    file.append([taught(0)])
    content = bytearray(file.path.read_bytes())
    content[-3] ^= 1
    file.path.write_bytes(content)
    assert len(TeacherFile.open(file.path, classes=4, vocabulary=300)) == 0


def test_a_file_of_other_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.bin"
    TeacherFile.open(path, classes=4, vocabulary=300).append([taught(0)])
    with pytest.raises(RunError, match="not the teacher's file of this run"):
        TeacherFile.open(path, classes=5, vocabulary=300)


def test_minus_infinity_of_an_empty_rest_is_kept(tmp_path: Path) -> None:
    file = TeacherFile.open(tmp_path / "teacher.bin", classes=3, vocabulary=3)
    classes = top_classes(torch.zeros(1, 3), 3)
    file.append([Taught(tree=PromptTree((0,), ((1,),)), classes=classes)])
    kept: TopClasses = file[0].classes
    assert float(kept.rest) == -torch.inf
