"""Round trips of every format, and rows as other tools write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hark.data.convert import convert
from hark.data.formats import (
    iterate_texts,
    read_comparisons,
    read_demonstrations,
    read_prompts,
    read_records,
    read_texts,
    read_unjudged,
    write_comparisons,
    write_demonstrations,
    write_prompts,
    write_records,
    write_texts,
)
from hark.data.formats.judged import summary_query
from hark.data.records import (
    Comparison,
    Demonstration,
    Message,
    Prompt,
    Question,
    Text,
    ask,
    chosen_and_rejected,
)
from hark.errors import DataError

QUICK = settings(deadline=None, max_examples=20)

words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], include_characters="\n\t"),
    min_size=1,
    max_size=30,
).filter(lambda text: bool(text.strip()))
stripped = words.map(str.strip).filter(bool)
names = st.none() | st.text("abcxyz-0189", min_size=1, max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False)


def prompts_of(texts: st.SearchStrategy[str], *, system: bool = True) -> Any:
    """Dialogues that end with a user turn."""
    opening = st.just(()) | texts.map(lambda text: (Message("system", text),))
    rounds = st.lists(
        st.tuples(texts, texts).map(
            lambda two: (Message("user", two[0]), Message("assistant", two[1]))
        ),
        max_size=2,
    )
    return st.builds(
        lambda first, middle, last: (
            *first,
            *(m for pair in middle for m in pair),
            Message("user", last),
        ),
        opening if system else st.just(()),
        rounds,
        texts,
    )


origin = {"user": names, "source": names, "id": names}
texts = st.builds(Text, text=words, source=names)
prompts = st.builds(Prompt, prompt=prompts_of(words), **origin)
demonstrations = st.builds(
    Demonstration, prompt=prompts_of(words), response=words, labeler=names, **origin
)


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    responses = tuple(draw(st.lists(words, min_size=2, max_size=4)))
    judgement = draw(st.sampled_from(["ranks", "probability"]))
    soft = judgement == "probability" and len(responses) == 2
    rank = st.integers(min_value=1, max_value=len(responses))
    return Comparison(
        prompt=draw(prompts_of(words)),
        responses=responses,
        ranks=None if soft else tuple(draw(rank) for _ in responses),
        probability=draw(st.floats(0, 1)) if soft else None,
        strength=draw(st.none() | numbers),
        weight=draw(st.floats(0, 100)),
        labeler=draw(names),
        models=draw(st.none() | st.tuples(*(words for _ in responses))),
        user=draw(names),
        source=draw(names),
        id=draw(names),
    )


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ── round trips ──────────────────────────────────────────────────────────────────────────────────


@QUICK
@given(records=st.lists(texts, min_size=1, max_size=4) | st.lists(prompts, min_size=1, max_size=4))
def test_canonical_texts_and_prompts_come_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("round") / "records.jsonl"
    kind = "texts" if isinstance(records[0], Text) else "prompts"
    write_records(path, records, kind=kind)
    assert read_records(path) == records


def test_canonical_questions_come_back(tmp_path: Path) -> None:
    records = [
        Question(context="a\nb ", options=(" é", "\u2028x", " c"), answer=2, source="s", id="7"),
        Question(context="", options=(" a", " b"), answer=0),
    ]
    for ending in (".jsonl", ".json.gz", ".parquet"):
        write_records(tmp_path / f"q{ending}", records, kind="questions")
        assert read_records(tmp_path / f"q{ending}") == records


@QUICK
@given(records=st.lists(demonstrations, min_size=1, max_size=4))
def test_canonical_demonstrations_come_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[Demonstration]
) -> None:
    path = tmp_path_factory.mktemp("round") / "records.jsonl.gz"
    write_demonstrations(path, records)
    assert read_demonstrations(path) == records


@QUICK
@given(records=st.lists(comparisons(), min_size=1, max_size=4))
def test_canonical_comparisons_come_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[Comparison]
) -> None:
    path = tmp_path_factory.mktemp("round") / "records.jsonl"
    write_comparisons(path, records)
    assert read_comparisons(path) == records


@pytest.mark.parametrize("format", ["hh", "trl", "trl-standard"])
@QUICK
@given(
    turns=prompts_of(stripped, system=False),
    chosen=stripped,
    rejected=stripped,
    strength=st.none() | numbers,
)
def test_pairs_come_back_from_every_pair_format(
    tmp_path_factory: pytest.TempPathFactory,
    format: str,
    turns: Any,
    chosen: str,
    rejected: str,
    strength: float | None,
) -> None:
    strength = None if format == "hh" else strength
    pair = chosen_and_rejected(turns, chosen, rejected, strength=strength)
    path = tmp_path_factory.mktemp("round") / "pairs.jsonl"
    write_comparisons(path, [pair], format=format)
    assert read_comparisons(path) == [pair]


@pytest.mark.parametrize("format", ["trl", "trl-standard", "trl-messages"])
@QUICK
@given(turns=prompts_of(stripped, system=False), response=stripped)
def test_demonstrations_come_back_from_trl(
    tmp_path_factory: pytest.TempPathFactory, format: str, turns: Any, response: str
) -> None:
    record = Demonstration(prompt=turns, response=response)
    path = tmp_path_factory.mktemp("round") / "demonstrations.jsonl"
    write_demonstrations(path, [record], format=format)
    assert read_demonstrations(path) == [record]


PAIR = Comparison(
    prompt=ask(summary_query("relationships", "Me and my cat", "It began\n\nlong ago.")),
    responses=("A cat story.", "Long ago."),
    ranks=(2, 1),
    strength=3.0,
    labeler="w7",
    models=("sup4", "ref"),
    source="batch3",
    id="t3_1",
)


def test_openai_and_arena_come_back(tmp_path: Path) -> None:
    write_comparisons(tmp_path / "openai.jsonl", [PAIR], format="openai")
    assert read_comparisons(tmp_path / "openai.jsonl") == [PAIR]
    battle = Comparison(
        prompt=(Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye")),
        responses=("Ciao.", "So long."),
        ranks=(1, 1),
        labeler="arena_user_1",
        models=("m1", "m2"),
        user="u",
        source="s",
        id="q1",
    )
    write_comparisons(tmp_path / "arena.jsonl", [battle], format="arena")
    assert read_comparisons(tmp_path / "arena.jsonl") == [battle]


def test_instructions_come_back(tmp_path: Path) -> None:
    record = Demonstration(prompt=ask("Name a colour."), response="Blue.")
    path = tmp_path / "alpaca.json"
    write_demonstrations(path, [record], format="instructions")
    assert read_demonstrations(path) == [record]
    long = Demonstration(
        prompt=(*ask("Hi"), Message("assistant", "Hello."), *ask("Bye")), response="B"
    )
    with pytest.raises(DataError, match="a prompt of 3 turns; write it with format 'hark'"):
        write_demonstrations(path, [long], format="instructions")


@pytest.mark.parametrize(
    "ending", [".jsonl", ".ndjson", ".json", ".jsonl.gz", ".json.xz", ".jsonl.zst", ".parquet"]
)
def test_every_ending_comes_back(tmp_path: Path, ending: str) -> None:
    records = [
        PAIR,
        Comparison(prompt=ask("ä\u2028\x85?"), responses=("a", "b", "c"), ranks=(1, 2, 2)),
        Comparison(prompt=ask("soft"), responses=("a", "b"), probability=0.25, weight=0.5),
    ]
    path = tmp_path / f"records{ending}"
    assert write_comparisons(path, records) == 3
    assert read_comparisons(path) == records
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


def test_equal_records_give_equal_gzip_bytes(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_comparisons(tmp_path / name, [PAIR])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_a_ranking_becomes_its_ordered_pairs(tmp_path: Path) -> None:
    ranking = Comparison(prompt=ask("Q"), responses=("worst", "best", "good"), ranks=(2, 1, 1))
    path = tmp_path / "pairs.jsonl"
    assert write_comparisons(path, [ranking], format="trl") == 2
    assert [pair.responses for pair in read_comparisons(path)] == [
        ("best", "worst"),
        ("good", "worst"),
    ]


# ── rows as other tools write them ───────────────────────────────────────────────────────────────

FIRST = "\n\nHuman: How do tides work?\n\nAssistant: The moon pulls.\n\nHuman: And the sun?"


def test_hh_transcript_of_several_turns(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "hh.jsonl",
        {
            "chosen": f"{FIRST}\n\nAssistant: It pulls too.\n\n1. Less.\n\n2. Yes. ",
            "rejected": f"{FIRST}\n\nAssistant: No idea: Human: who knows?",
        },
    )
    (pair,) = read_comparisons(path)
    assert pair.prompt == (
        Message("user", "How do tides work?"),
        Message("assistant", "The moon pulls."),
        Message("user", "And the sun?"),
    )
    # Blank lines within a reply, and "Human:" within a line, begin no turn.
    assert pair.responses == ("It pulls too.\n\n1. Less.\n\n2. Yes.", "No idea: Human: who knows?")
    assert pair.ranks == (1, 2)


@pytest.mark.parametrize(
    ("chosen", "rejected", "message"),
    [
        (f"{FIRST}\n\nAssistant: a", "\n\nHuman: Other?\n\nAssistant: b", "part at turn 1"),
        (
            f"{FIRST}\n\nAssistant: a",
            f"{FIRST}\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
            "4 and 6",
        ),
        (
            f"{FIRST}\n\nAssistant: a",
            f"{FIRST}\n\nAssistant:",
            "'rejected' does not end with a reply",
        ),
        (f"{FIRST}\n\nAssistant: a", "\n\nAssistant: b", "part at turn 1"),
        ("\n\nHuman: \n\nAssistant: a", "\n\nHuman: \n\nAssistant: b", "empty user turn"),
    ],
)
def test_bad_hh_transcripts(tmp_path: Path, chosen: str, rejected: str, message: str) -> None:
    path = lines(tmp_path / "hh.jsonl", {"chosen": chosen, "rejected": rejected})
    with pytest.raises(DataError, match=rf"hh\.jsonl:1: .*{message}.*; expected"):
        read_comparisons(path)


USER = [{"role": "user", "content": "Sky?"}]
BLUE = [{"role": "assistant", "content": "Blue."}]
GREEN = [{"role": "assistant", "content": "Green."}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": USER, "chosen": BLUE, "rejected": GREEN},
        {"chosen": USER + BLUE, "rejected": USER + GREEN},
        {"prompt": "Sky?", "chosen": " Blue.", "rejected": " Green."},
        {"chosen": "Sky? Blue.", "rejected": "Sky? Green."},
        {"prompt": "Sky?", "chosen": USER + BLUE, "rejected": USER + GREEN},
        {"prompt": "\n\nHuman: Sky?\n\nAssistant:", "chosen": " Blue.", "rejected": " Green."},
    ],
)
def test_trl_preferences_in_all_their_forms(tmp_path: Path, row: dict[str, Any]) -> None:
    expected = chosen_and_rejected(ask("Sky?"), "Blue.", "Green.", strength=0.5)
    path = lines(tmp_path / "trl.jsonl", row | {"margin": 0.5})
    assert read_comparisons(path) == [expected]


def test_implicit_prompts_do_not_part_a_word(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", {"chosen": "It is blue", "rejected": "It is black"})
    (pair,) = read_comparisons(path)
    assert (pair.prompt, pair.responses) == (ask("It is"), ("blue", "black"))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": USER + BLUE},
        {"prompt": USER, "completion": BLUE},
        {"prompt": "Sky?", "completion": " Blue."},
        {"instruction": "Sky?", "input": "", "output": "Blue."},
        {"instruction": "Sky?", "context": "", "response": "Blue.", "category": "open_qa"},
        {"instruction": "Sky?", "instances": [{"input": "", "output": "Blue."}]},
        {"prompt": "Sky?", "response": "Blue."},
    ],
)
def test_demonstrations_in_all_their_forms(tmp_path: Path, row: dict[str, Any]) -> None:
    path = lines(tmp_path / "d.jsonl", row)
    assert read_demonstrations(path) == [Demonstration(prompt=ask("Sky?"), response="Blue.")]
    assert read_prompts(path) == [Prompt(prompt=ask("Sky?"))]


def test_instructions_take_their_input_into_the_prompt(tmp_path: Path) -> None:
    row = {"instruction": "Translate.", "input": "chat", "output": "cat"}
    (record,) = read_demonstrations(lines(tmp_path / "a.jsonl", row))
    assert record.prompt == ask("Translate.\n\nchat")
    tasks = {
        "instruction": "Add.",
        "instances": [{"input": "1+1", "output": "2"}, {"input": "2+2", "output": "4"}],
    }
    assert [
        (one.prompt[0].content, one.response)
        for one in read_demonstrations(lines(tmp_path / "s.jsonl", tasks))
    ] == [("Add.\n\n1+1", "2"), ("Add.\n\n2+2", "4")]


def test_openai_comparison(tmp_path: Path) -> None:
    row = {
        "info": {
            "id": "t3_1",
            "post": "It began\n\nlong ago.",
            "title": "Me and my cat",
            "subreddit": "relationships",
        },
        "summaries": [
            {"text": " A cat story.", "policy": "sup4", "note": ""},
            {"text": " Long ago.", "policy": "ref", "note": "x"},
        ],
        "choice": 1,
        "worker": "w7",
        "batch": "batch3",
        "split": "train",
        "extra": {"confidence": 8},
    }
    # 8 on the scale of 9 is 3 from the middle.
    assert read_comparisons(lines(tmp_path / "o.jsonl", row)) == [PAIR]
    bad = row | {"choice": 2}
    with pytest.raises(DataError, match=r"o\.jsonl:1: has 2 summaries and choice 2"):
        read_comparisons(lines(tmp_path / "o.jsonl", bad))


@pytest.mark.parametrize(
    ("winner", "ranks"),
    [("model_a", (1, 2)), ("model_b", (2, 1)), ("tie", (1, 1)), ("tie (bothbad)", (1, 1))],
)
def test_arena_battle(tmp_path: Path, winner: str, ranks: tuple[int, int]) -> None:
    row = {
        "question_id": 81,
        "model_a": "m1",
        "model_b": "m2",
        "winner": winner,
        "judge": "arena_user_3",
        "conversation_a": USER + BLUE,
        "conversation_b": USER + GREEN,
        "turn": 1,
    }
    (battle,) = read_comparisons(lines(tmp_path / "b.jsonl", row))
    assert battle == Comparison(
        prompt=ask("Sky?"),
        responses=("Blue.", "Green."),
        ranks=ranks,
        labeler="arena_user_3",
        models=("m1", "m2"),
        id="81",
    )


def test_models_that_are_not_all_named_have_no_names(tmp_path: Path) -> None:
    row = {
        "model_a": "m1",
        "winner": "tie",
        "conversation_a": USER + BLUE,
        "conversation_b": USER + GREEN,
    }
    (battle,) = read_comparisons(lines(tmp_path / "b.jsonl", row))
    assert battle.models is None
    canonical = {"prompt": "Q", "responses": ["a", "b"], "ranks": [1, 2], "models": ["m1"]}
    with pytest.raises(DataError, match="1 models for 2 responses: name one for each"):
        read_comparisons(lines(tmp_path / "c.jsonl", canonical))


def test_arena_battles_that_part_early_have_no_prompt(tmp_path: Path) -> None:
    row = {
        "winner": "tie",
        "conversation_a": USER + BLUE + USER + BLUE,
        "conversation_b": USER + GREEN + USER + BLUE,
    }
    with pytest.raises(DataError, match="of 4 and 4 turns that part before the last reply"):
        read_comparisons(lines(tmp_path / "b.jsonl", row))


@pytest.mark.parametrize(
    ("preference", "ranks", "probability"),
    [
        (1, (1, 2), None),
        (2.0, (2, 1), None),
        (1.5, (1, 1), None),
        (0, (1, 1), None),
        (1.75, None, 0.25),
    ],
)
def test_alpaca_eval_annotation(
    tmp_path: Path, preference: float, ranks: tuple[int, int] | None, probability: float | None
) -> None:
    row = {
        "instruction": "Sky?",
        "output_1": "Blue.",
        "output_2": "Green.",
        "generator_1": "a",
        "generator_2": "b",
        "dataset": "koala",
        "annotator": "gpt4",
        "preference": preference,
    }
    assert read_comparisons(lines(tmp_path / "a.jsonl", row)) == [
        Comparison(
            prompt=ask("Sky?"),
            responses=("Blue.", "Green."),
            ranks=ranks,
            probability=probability,
            labeler="gpt4",
            models=("a", "b"),
            source="koala",
        )
    ]


def test_unpaired_feedback_gives_prompts_only(tmp_path: Path) -> None:
    path = lines(tmp_path / "kto.jsonl", {"prompt": "Sky?", "completion": " Blue.", "label": True})
    assert read_prompts(path) == [Prompt(prompt=ask("Sky?"))]
    for read in (read_demonstrations, read_comparisons):
        with pytest.raises(DataError, match="unpaired feedback, which judges single responses"):
            read(path)


# ── texts ────────────────────────────────────────────────────────────────────────────────────────


def test_plain_text_is_one_document_unless_parted(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("One.\r\n\nTwo.\n<|endoftext|>\n\nThree.\n", encoding="utf-8")
    assert read_texts(path) == [Text(text="One.\n\nTwo."), Text(text="Three.")]
    assert [text.text for text in read_texts(path, format="lines")][:2] == ["One.", "Two."]
    write_texts(tmp_path / "copy.txt.xz", read_texts(path), format="txt")
    assert read_texts(tmp_path / "copy.txt.xz") == read_texts(path)


def test_long_text_streams_in_pieces_cut_at_blank_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hark.data.rows.MAXIMUM_DOCUMENT_CHARACTERS", 10)
    path = tmp_path / "book.txt"
    path.write_text("aaaa\naaaa\naaaa\n\nbb\n\n" + "c\n" * 15, encoding="utf-8")
    pieces = [text.text for text in iterate_texts(path)]
    # 15 ≥ 10 characters before the first blank line; the c's have none and are cut at 2 × 10,
    # of which "bb" and its blank line are 4.
    assert pieces == ["aaaa\naaaa\naaaa", "bb\n\n" + "c\n" * 7 + "c", "\n".join("c" * 7)]


def test_iterate_texts_reads_no_further_than_asked(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", {"text": "good"}, {"text": 5})
    texts = iterate_texts(path)
    assert next(texts) == Text(text="good")
    with pytest.raises(DataError, match=r"t\.jsonl:2: 'text' is 5, not a string"):
        next(texts)


def test_prompts_from_lines_of_text(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("Name a fish.\n\nWhy?\n", encoding="utf-8")
    assert read_prompts(tmp_path / "prompts.txt") == [
        Prompt(prompt=ask("Name a fish.")),
        Prompt(prompt=ask("Why?")),
    ]


# ── kinds ────────────────────────────────────────────────────────────────────────────────────────


def test_prompts_of_comparisons_keep_who_asked(tmp_path: Path) -> None:
    record = Comparison(
        prompt=ask("Q"),
        responses=("a", "b"),
        ranks=(1, 2),
        user="u",
        labeler="l",
        source="s",
        id="i",
    )
    write_comparisons(tmp_path / "c.jsonl", [record, record])
    assert (
        read_prompts(tmp_path / "c.jsonl")
        == [Prompt(prompt=ask("Q"), user="u", source="s", id="i")] * 2
    )


def test_unjudged_comparisons(tmp_path: Path) -> None:
    unjudged = Comparison(prompt=ask("Q"), responses=("a", "b"), weight=2.0)
    judged = Comparison(
        prompt=ask("Q"), responses=("a", "b"), ranks=(2, 1), strength=3.0, weight=2.0
    )
    write_comparisons(tmp_path / "u.jsonl", [unjudged, judged])
    assert read_unjudged(tmp_path / "u.jsonl") == [unjudged, unjudged]
    assert read_records(tmp_path / "u.jsonl") == [unjudged, judged]
    with pytest.raises(DataError, match=r"u\.jsonl:1: is a comparison without 'ranks'"):
        read_comparisons(tmp_path / "u.jsonl")


# ── conversion ───────────────────────────────────────────────────────────────────────────────────


def test_conversion_says_what_is_lost(tmp_path: Path) -> None:
    tie = Comparison(prompt=ask("Q"), responses=("a", "b"), ranks=(1, 1), labeler="l")
    win = Comparison(prompt=ask("Q"), responses=("a", "b"), ranks=(2, 1), weight=0.5)
    write_comparisons(tmp_path / "in.jsonl", [tie, win])
    done = convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl", to="hh")
    assert (done.kind, done.rows, done.untold) == ("comparisons", 1, 1)
    assert done.lost == {"labeler": 1, "weight": 1}
    assert "no place for: labeler (1), weight (1); 1 comparisons without a winner" in done.summary()
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row == {
        "chosen": "\n\nHuman: Q\n\nAssistant: b",
        "rejected": "\n\nHuman: Q\n\nAssistant: a",
    }
    with pytest.raises(DataError, match=r"out\.jsonl' exists already"):
        convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl", to="trl")
    assert convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl", overwrite=True).rows == 2


def test_formats_refuse_what_they_cannot_say(tmp_path: Path) -> None:
    inside = chosen_and_rejected(ask("Q"), "a\n\nHuman: b", "c")
    with pytest.raises(DataError, match=r"cannot write record 1 to .*turn with '\\n\\nHuman:'"):
        write_comparisons(tmp_path / "x.jsonl", [inside], format="hh")
    system = chosen_and_rejected((Message("system", "S"), *ask("Q")), "a", "b")
    with pytest.raises(DataError, match="a system turn"):
        write_comparisons(tmp_path / "x.jsonl", [system], format="hh")
    with pytest.raises(DataError, match="cannot express a prompt that is not 'SUBREDDIT"):
        write_comparisons(tmp_path / "x.jsonl", [inside], format="openai")
    with pytest.raises(DataError, match="cannot write prompts as 'hh'.*expected one of: hark, trl"):
        write_prompts(tmp_path / "x.jsonl", [Prompt(prompt=ask("Q"))], format="hh")
    with pytest.raises(DataError, match="half of a surrogate pair"):
        write_prompts(tmp_path / "x.jsonl", [Prompt(prompt=ask("\ud800"))])
    assert list(tmp_path.iterdir()) == []
