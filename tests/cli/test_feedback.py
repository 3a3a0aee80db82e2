"""`hark feedback` from a new store to a snapshot that training reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from hark.cli.main import run
from hark.data.files import expand_paths
from hark.data.formats import read_comparisons
from hark.data.formats.judged import summary_query
from hark.feedback import accounts, invites
from hark.feedback.refusals import NotFoundError
from hark.feedback.store import Store
from hark.models.checkpoint import save_model
from hark.models.language_model import new_language_model
from hark.models.tokenizer import train_tokenizer

STUDY = """
name: answers
title: Which answer is better
task: vote
instructions: Choose the better one.
"""
FORMATS = ["hark", "hh", "trl", "openai", "parquet"]


@pytest.fixture(autouse=True)
def _in_a_new_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an owner, in the current directory; hashes with little work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARK_STORE", raising=False)
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(accounts, "_HASHER", quick)
    Path("password").write_text("correct horse battery\n")
    Path("study.yaml").write_text(STUDY)


def carry_out(capsys: pytest.CaptureFixture[str], *tokens: str) -> dict[str, Any]:
    """The last line of a `hark feedback` command that succeeds."""
    capsys.readouterr()
    assert run(["feedback", *tokens, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def refusal(capsys: pytest.CaptureFixture[str], *tokens: str) -> str:
    """The sentence of one that does not."""
    capsys.readouterr()
    assert run(["feedback", *tokens]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def pairs(count: int) -> None:
    with Path("pairs.jsonl").open("w") as file:
        for n in range(count):
            query = summary_query("fruit", f"Question {n}", "Which of them shall I eat?")
            asked = f"\n\nHuman: {query}\n\nAssistant: "
            file.write(json.dumps({"chosen": asked + "good", "rejected": asked + "bad"}) + "\n")


def with_labels(capsys: pytest.CaptureFixture[str]) -> None:
    carry_out(capsys, "owner", "ada", "--password-file", "password")
    carry_out(capsys, "create", "study.yaml")
    pairs(20)
    carry_out(capsys, "import", "pairs.jsonl", "--from", "hh", "--study", "answers")


def test_the_first_account_is_made_once(capsys: pytest.CaptureFixture[str]) -> None:
    made = carry_out(capsys, "owner", "Ada", "--password-file", "password")
    assert (made["login"], made["role"]) == ("ada", "owner")
    again = refusal(capsys, "owner", "bob", "--password-file", "password")
    assert "has accounts already" in again


def test_a_password_needs_a_terminal_or_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --password-file" in refusal(capsys, "owner", "ada")


def test_a_store_without_an_owner_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    Store("feedback.db").close()
    said = refusal(capsys, "create", "study.yaml")
    assert "has no owner yet: make one with `hark feedback owner LOGIN`" in said


@pytest.mark.parametrize("command", [("status",), ("create", "study.yaml"), ("export", "answers")])
def test_a_misspelt_store_is_not_made(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no database 'feedbak.db'" in refusal(capsys, *command, "--store", "feedbak.db")
    assert not Path("feedbak.db").exists()


def test_a_file_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    carry_out(capsys, "owner", "ada", "--password-file", "password")
    carry_out(capsys, "create", "study.yaml")
    for file in (".", "nowhere.json"):
        said = refusal(capsys, "import", file, "--from", "argilla", "--study", "answers")
        assert f"'{file}'" in said
    assert "no study 'answer'" in refusal(
        capsys, "import", ".", "--from", "hh", "--study", "answer"
    )


def test_a_study_is_filled_opened_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    carry_out(capsys, "owner", "ada", "--password-file", "password")
    task = {"kind": "vote", "prompt": [{"role": "user", "content": "Hi"}]}
    item = {"task": task, "candidates": [{"text": "a"}, {"text": "b"}]}
    Path("items.jsonl").write_text(json.dumps(item) + "\n")
    made = carry_out(capsys, "create", "study.yaml", "--items", "items.jsonl", "--open")
    assert (made["study"], made["state"], made["items"]) == ("answers", "open", 1)
    (row,) = carry_out(capsys, "status")["studies"]
    assert (row["study"], row["items"], row["full"], row["labels"]) == ("answers", 1, 0, 0)
    assert row["agreement"] is None
    assert run(["feedback", "status"]) == 0
    assert "answers" in capsys.readouterr().out


def test_items_that_do_not_fit_leave_no_study_behind(capsys: pytest.CaptureFixture[str]) -> None:
    carry_out(capsys, "owner", "ada", "--password-file", "password")
    Path("items.jsonl").write_text(json.dumps({"task": {"kind": "dialogue"}}) + "\n")
    said = refusal(capsys, "create", "study.yaml", "--items", "items.jsonl")
    assert "does not belong to study 'answers'" in said
    assert carry_out(capsys, "status")["studies"] == []


def test_an_invite_is_a_link(capsys: pytest.CaptureFixture[str]) -> None:
    carry_out(capsys, "owner", "ada", "--password-file", "password")
    carry_out(capsys, "create", "study.yaml")
    made = carry_out(capsys, "invite", "answers", "--uses", "3", "--url", "https://x.org/")
    assert made["link"].startswith("https://x.org/invite/")
    assert (made["role"], made["uses"]) == ("labeler", 3)
    assert run(["feedback", "invite", "answers", "--held-out"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("/invite/")
    assert "Put the address of your server before it, or give --url" in told.err
    assert run(["feedback", "invite", "answers", "--url", "https://x.org"]) == 0
    assert capsys.readouterr().err == ""
    assert "no study 'answer' (did you mean 'answers'?)" in refusal(capsys, "invite", "answer")


def test_the_store_may_be_named_by_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARK_STORE", "elsewhere.db")
    carry_out(capsys, "owner", "ada", "--password-file", "password")
    assert Path("elsewhere.db").exists()
    assert not Path("feedback.db").exists()


def test_an_import_says_what_it_kept_and_what_not(capsys: pytest.CaptureFixture[str]) -> None:
    carry_out(capsys, "owner", "ada", "--password-file", "password")
    carry_out(capsys, "create", "study.yaml")
    pairs(3)
    with Path("pairs.jsonl").open("a") as file:
        file.write("{broken\n")
    command = ("import", "pairs.jsonl", "--from", "hh", "--study", "answers")
    first = carry_out(capsys, *command)
    assert (first["items"], first["labels"], first["repeated"]) == (3, 3, 0)
    ((why, places),) = first["left_out"].items()
    assert "not valid JSON" in why
    assert places == ["pairs.jsonl:4"]
    again = carry_out(capsys, *command)
    assert (again["items"], again["labels"], again["repeated"]) == (0, 0, 3)
    assert run(["feedback", *command]) == 0
    assert "left out: 1 is not valid JSON" in capsys.readouterr().out
    assert "would be ignored" in refusal(capsys, *command, "--prompt-field", "p")


def test_a_long_name_is_wrapped_and_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out(capsys, "owner", "ada", "--password-file", "password")
    name = "harmlessness-against-red-teams-of-the-third-round"
    Path("long.yaml").write_text(STUDY.replace("answers", name))
    carry_out(capsys, "create", "long.yaml")
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["feedback", "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    rows = [line.split("│") for line in lines if line.startswith("│")]
    assert "".join(row[1].strip() for row in rows) == name
    assert "".join(row[2].strip() for row in rows) == "draft"


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (["feedback", "invite", "--usez", "3"], "hark feedback invite --help"),
        (["feedback", "create"], "hark feedback create --help"),
        (["serve", "--prot", "3"], "hark serve --help"),
    ],
)
def test_a_wrong_option_leads_to_the_help_of_its_own_command(
    command: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2
    assert f"See `{hint}`." in capsys.readouterr().err


def test_links_are_listed_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    carry_out(capsys, "owner", "ada", "--password-file", "password")
    carry_out(capsys, "create", "study.yaml")
    link = carry_out(capsys, "invite", "answers", "--uses", "3")["link"]
    (listed,) = carry_out(capsys, "invites")["invites"]
    assert (listed["study"], listed["role"], listed["uses_left"]) == ("answers", "labeler", 3)
    assert "there is no invite '1': the list of links has their ids" in refusal(
        capsys, "revoke", "1"
    )
    carry_out(capsys, "revoke", listed["id"])
    assert carry_out(capsys, "invites")["invites"] == []
    with Store("feedback.db") as store, pytest.raises(NotFoundError):
        invites.look_at(store, link.rpartition("/")[2])
    assert run(["feedback", "invites"]) == 0
    assert "no link is good now" in capsys.readouterr().out


@pytest.mark.parametrize("format_", FORMATS)
def test_an_export_is_read_as_comparisons(format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By its file and by its directory, in which the events stand too."""
    with_labels(capsys)
    made = carry_out(capsys, "export", "answers", "--format", format_)
    assert made["labels"] == 20
    assert expand_paths(made["snapshot"]) == [Path(made["data"])]
    for path in (made["data"], made["snapshot"]):
        found = read_comparisons(path)
        assert len(found) == 20
        for one in found:
            ((better, _),) = one.ordered_pairs()
            assert one.responses[better].strip() == "good"
    assert carry_out(capsys, "check", made["snapshot"])["unchanged"] is True


def test_a_preference_model_learns_from_exports(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Of every format, each given as its directory."""
    with_labels(capsys)
    tokenizer = train_tokenizer(["the good and the bad of it all " * 9], vocabulary_size=280)
    model = new_language_model(
        "0.5m", vocabulary_size=len(tokenizer), context_length=256, seed=0,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    save_model(tmp_path / "base", model, tokenizer)
    made = [carry_out(capsys, "export", "answers", "--format", one) for one in FORMATS]
    snapshots = [one["snapshot"] for one in made]
    capsys.readouterr()
    command = ["preference", "--model", "base", "--data", *snapshots, "--device", "cpu", "--json"]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["status"] == "complete"
    assert found["comparisons"] == 20 * len(FORMATS)


def test_a_changed_snapshot_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    with_labels(capsys)
    made = carry_out(capsys, "export", "answers", "--output", "out")
    data = Path(made["data"])
    data.chmod(0o644)
    data.write_text(data.read_text().replace("good", "poor", 1))
    assert "was changed" in refusal(capsys, "check", made["snapshot"])
    assert "is no data snapshot" in refusal(capsys, "check", ".")


def test_nothing_to_export_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with_labels(capsys)
    said = refusal(capsys, "export", "answers", "--uses", "test")
    assert "no label to export (20 of use 'train')" in said
