"""What `hark` says and with which exit status, whatever happens inside a command."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from hark.cli import main
from hark.errors import DataError

Raise = Callable[[BaseException], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Raise:
    """Make every command raise what it is given."""

    def arrange(error: BaseException) -> None:
        def app(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(main, "build_app", lambda: app)

    return arrange


def in_process_of_its_own(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from hark.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
    )


def test_help_lists_every_command_and_imports_no_torch() -> None:
    code = (
        "import sys\nfrom hark.cli.main import run\nstatus = run(['--help'])\n"
        "assert 'torch' not in sys.modules\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in main.COMMANDS:
        assert f" {command} " in done.stdout


def test_a_bad_command_is_one_sentence_with_a_suggestion_and_no_torch() -> None:
    code = (
        "import sys\nfrom hark.cli.main import run\nstatus = run(['prefrence'])\n"
        "assert 'torch' not in sys.modules\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown command 'prefrence' (did you mean 'preference'?)")
    assert done.stderr.count("\n") == 1


def test_an_error_a_person_can_mend_is_one_sentence_and_status_2(
    failing: Raise, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(DataError("pairs.jsonl:3: no 'chosen'"))
    assert main.run(["preference"]) == 2
    assert capsys.readouterr() == ("", "error: pairs.jsonl:3: no 'chosen'\n")


def test_with_json_the_error_is_the_last_line_of_stdout(
    failing: Raise, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(DataError("no such file"))
    assert main.run(["sft", "--json"]) == 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"status": "failed", "error": "no such file"}


def test_an_interruption_says_how_to_go_on(
    failing: Raise, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(KeyboardInterrupt())
    assert main.run(["ppo"]) == 130
    assert "the same command continues" in capsys.readouterr().err


def test_a_full_disk_is_no_defect(failing: Raise, capsys: pytest.CaptureFixture[str]) -> None:
    failing(OSError(errno.ENOSPC, "No space left on device", "runs/x"))
    assert main.run(["ppo"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: 'runs/x': No space left on device; free some space")
    assert "Traceback" not in said


@pytest.mark.parametrize("error", [RuntimeError("odd"), OSError(errno.EIO, "Input/output error")])
def test_a_defect_keeps_its_traceback_and_is_status_1(
    failing: Raise, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    failing(error)
    assert main.run(["ppo"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "defect of hark" in said


def test_the_version_is_printed() -> None:
    done = in_process_of_its_own("--version")
    assert done.returncode == 0
    assert done.stdout.strip() == main.__version__


def test_a_closed_pipe_ends_quietly() -> None:
    # `head -c 0` leaves at once; a help page is longer than its pipe's goodwill.
    command = f"{sys.executable} -c 'from hark.cli.main import main; main()' --help | head -c 0"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
