"""`hark`: the command line. Each command's module is imported when that command is given.

Exit status: 0 done; 1 a defect of hark, with its traceback; 2 something the person can mend, in one
sentence; 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App, CycloptsError, Group
from cyclopts.exceptions import UnknownCommandError

from hark import __version__
from hark.cli.outcome import announce_error
from hark.errors import HarkError, did_you_mean
from hark.runs.progress import is_first_process

START = Group("Start here", sort_key=1)
TRAIN = Group("Train", sort_key=2)
MEASURE = Group("Sample, judge, measure", sort_key=3)
COLLECT = Group("Collect feedback", sort_key=4)
DATA = Group("Data", sort_key=5)

COMMANDS: dict[str, tuple[Group, str, str]] = {
    "quickstart": (
        START,
        "Run the whole loop on the built-in playground; ends with a report.\n\n"
        "A base model from text, demonstrations, preferences, PPO, and a comparison of them all. "
        "Needs no data, no network and no GPU; minutes on two CPU cores.",
        "hark quickstart",
    ),
    "run": (
        START,
        "Run a recipe: a paper's pipeline, stage by stage.\n\n"
        "Every stage gets a run directory of its own. A stage already complete with the same "
        "settings and inputs is not run again, and an interrupted one is continued: give the same "
        "command again.",
        "hark run instructgpt --miniature",
    ),
    "plan": (
        START,
        "Forecast a recipe on given devices: memory, time, cost.\n\n"
        "Memory by term, step time by phase, hours and dollars of every stage, and the largest "
        "model that fits; each figure says whether it is measured, calibrated or extrapolated. "
        "Nothing is run.",
        "hark plan instructgpt --gpus 8 --gpu h100 --parameters base=7b",
    ),
    "pretrain": (
        TRAIN,
        "Train a small language model from text.",
        "hark pretrain --data texts.jsonl --evaluation-data held-out.jsonl --size 3m",
    ),
    "distill": (
        TRAIN,
        "Teach a model to behave without a context as it does with it.",
        "hark distill --model runs/…-pretrain --context preamble.txt --data texts.jsonl",
    ),
    "sft": (
        TRAIN,
        "Teach a language model by demonstrations.",
        "hark sft --model runs/…-pretrain --data demonstrations.jsonl",
    ),
    "preference": (
        TRAIN,
        "Train a preference model on comparisons.",
        "hark preference --model runs/…-sft --data comparisons.jsonl",
    ),
    "ppo": (
        TRAIN,
        "Improve a language model against a preference model or another scorer.",
        "hark ppo --model runs/…-sft --preference-model runs/…-preference --data prompts.jsonl",
    ),
    "sample": (
        MEASURE,
        "Let a model answer prompts.",
        "hark sample --model runs/…-sft --data prompts.jsonl --responses-per-prompt 4",
    ),
    "label": (
        MEASURE,
        "Let a labeler judge the answers of models.",
        "hark label --data runs/…-sample/data/responses.jsonl --labeler playground",
    ),
    "items": (
        COLLECT,
        "Let snapshots answer prompts side by side, as items of a study.\n\n"
        "`hark feedback create --items` takes the file.",
        "hark items --snapshots '{old: {model: runs/…-sft}, new: {model: runs/…-ppo}}' "
        "--data prompts.jsonl",
    ),
    "merge": (
        DATA,
        "Merge tranches of comparisons into one training set, weighted, capped, parted by prompt.",
        "hark merge --tranches '{base: {data: [base.jsonl]}, online: {data: [online.jsonl]}}'",
    ),
    "tranches": (
        MEASURE,
        "Measure tranches of comparisons by a preference model: scores, accuracy.",
        "hark tranches --model runs/…-preference "
        "--replies '{base: [base.jsonl], online: [online.jsonl]}'",
    ),
    "evaluate": (
        MEASURE,
        "Measure win rate, preference accuracy, loss or multiple choice.",
        "hark evaluate --model runs/…-preference --data pairs.jsonl --json",
    ),
    "compare": (
        MEASURE,
        "Measure several policies side by side: one table, one row a policy.",
        "hark compare --help",
    ),
    "tournament": (
        MEASURE,
        "Compare every policy with every other: Elo by several judges.\n\n"
        "All judge the same replies: the playground's labelers and its gold grade, preference "
        "models, labelers of yours, people. Writers in files take part like policies. Beside the "
        "measured Elo stands what preference models' scores predict.",
        "hark tournament --help",
    ),
    "rate": (
        MEASURE,
        "Rate models by votes: Elo with intervals.\n\n"
        "From comparisons that name the models of their responses, arena battles, and exports of "
        "the feedback application; ties, the advantage of being shown first, and who won how "
        "often against whom.",
        "hark rate --data exports/helpful-0123456789ab --anchor sft",
    ),
    "rehearse": (
        MEASURE,
        "Simulate a study of votes, to see how sure it will be.\n\n"
        "How wide the intervals of Elo are with so many labelers and votes, and whether they hold "
        "the planted truth as often as they state.",
        "hark rehearse --labelers 20 --votes-per-labeler 50",
    ),
    "best-of": (
        MEASURE,
        "Measure the best of n replies by a preference model, against its KL.\n\n"
        "From N draws for each prompt, without bias for every n up to N.",
        "hark best-of --model runs/…-sft --preference-model runs/…-preference --data prompts.jsonl",
    ),
    "outliers": (
        MEASURE,
        "Fit a detector of prompts unlike those a model was made for.\n\n"
        "By the model's own activations, as Bai et al. (2022) do. Sampling and "
        "serving can refuse what it detects: --refuse-out-of-distribution.",
        "hark outliers --model runs/…-sft --data prompts.jsonl --outlier-data harmful.jsonl",
    ),
    "serve-model": (
        MEASURE,
        "Serve models at an OpenAI-compatible endpoint.\n\n"
        "Chat and completions, streamed or whole, with log-probabilities, at /v1; state at "
        "/health. Every request has settings and a seed of its own, and its samples do not depend "
        "on other requests.",
        "hark serve-model sft=runs/…-sft ppo=runs/…-ppo --port 8000",
    ),
    "serve": (
        COLLECT,
        "Serve the feedback application: people label in the browser.\n\n"
        "Demonstrations, comparisons of live replies, rankings, votes, red teaming, reviews; "
        "studies, people and exports are managed there too. --demo has somebody labelling within a "
        "minute.",
        "hark serve --demo",
    ),
    "loop": (
        COLLECT,
        "Iterated online training: serve, collect, retrain, again.\n\n"
        "Each round serves the previous and the new policy, collects comparisons from people (or "
        "simulated labelers) until a quota or a date, and retrains. Every step may be killed.",
        "hark loop init LOOP.yaml loops/weekly",
    ),
    "trace": (
        MEASURE,
        "Show which labels a model, a rating or a run comes from, or what came of labels.\n\n"
        "From run to run by their manifests, down to exports with their studies, labels and "
        "labelers; --down goes the other way.",
        "hark trace runs/…-ppo",
    ),
    "report": (
        MEASURE,
        "Make one self-contained HTML page of runs.",
        "hark report --runs runs/…-ppo runs/…-compare",
    ),
    "study": (
        MEASURE,
        "Say what several runs together found of what a paper claims.\n\n"
        "Each effect comes with its number, its interval, and a verdict by a rule that was fixed "
        "before the data were seen.",
        "hark study --help",
    ),
    "replication": (
        MEASURE,
        "Write what studies found as a Markdown page with figures.",
        "hark replication runs/…-study --title 'HH in small' --into docs/replications/hh",
    ),
    "profile": (
        MEASURE,
        "Show where the time of a training run went.\n\n"
        "The share of each phase, and the useful arithmetic a second: a prompt counted once, "
        "padding not at all. For a timeline of single operators, train with --profile-steps.",
        "hark profile runs/…-ppo",
    ),
    "data": (
        DATA,
        "Look at, convert and clean data files.",
        "hark data inspect comparisons.jsonl",
    ),
    "feedback": (
        DATA,
        "Collect labels from people, and hand them on to training.",
        "hark feedback status",
    ),
    "playground": (
        DATA,
        "Write the built-in world's texts, demonstrations and prompts.",
        "hark playground --seed 1",
    ),
    "playground-comparisons": (
        DATA,
        "Write the built-in world's comparisons: helpful, harmless, voted, binary.",
        "hark playground-comparisons --held-out 400",
    ),
    "playground-prompts": (
        DATA,
        "Part the built-in world's prompts by whether they are of one family.\n\n"
        "Two files: the prompts of the family, such as requests for code or to make a text "
        "shorter, and all others; for training with and without a skill.",
        "hark playground-prompts --data runs/…-playground/data/ppo-prompts.jsonl --family shorter",
    ),
}
"""Name → its place in the list, its help (the first sentence is in the list), an example."""

WITH_COMMANDS = {"data", "feedback", "loop"}
"""Those that are an application of commands of their own."""

FROM_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG,
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
}  # fmt: skip
"""Refusals of the operating system that a person can do something about."""


def build_app() -> App:
    """The application, without any command's module."""
    app = App(
        name="hark",
        help="Align language models with human feedback, end to end.",
        version=__version__,
        help_format="plaintext",
        help_epilogue="New here? `hark quickstart`, then `hark COMMAND --help`.",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for place, (name, (group, help_, example)) in enumerate(COMMANDS.items()):
        is_group = name in WITH_COMMANDS
        only_functions = {} if is_group else {"help_epilogue": f"Example: {example}"}
        module = name.replace("-", "_")
        app.command(
            f"hark.cli.{module}:{'app' if is_group else module}",
            name=name,
            help=help_,
            group=group,
            sort_key=place,
            **only_functions,
        )
    app.register_install_completion_command(
        help="Install completion for your shell.", group=Group("Other", sort_key=9)
    )
    return app


def run(tokens: Sequence[str]) -> int:
    """Carry out one command line and return its exit status."""
    as_json = "--json" in tokens
    if not is_first_process():
        # Results are said once.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        build_app()(list(tokens), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except UnknownCommandError as error:
        announce_error(describe_unknown_command(error), as_json=as_json)
        return 2
    except CycloptsError as error:
        command = " ".join(["hark", *(error.command_chain or ())])
        announce_error(f"{error} See `{command} --help`.", as_json=as_json)
        return 2
    except HarkError as error:
        announce_error(str(error), as_json=as_json)
        return 2
    except KeyboardInterrupt:
        announce_error("interrupted; the same command continues where it stopped", as_json=as_json)
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in FROM_DISK:
            return _defect(error, as_json=as_json)
        announce_error(describe_os_error(error), as_json=as_json)
        return 2
    except Exception as error:
        return _defect(error, as_json=as_json)
    return 0


def describe_unknown_command(error: UnknownCommandError) -> str:
    """Name the command meant. Cyclopts would import every command's module to say the same."""
    tokens = error.unused_tokens or [""]
    choices = list(COMMANDS)
    if error.command_chain and error.app is not None:
        choices = [name for name in error.app if not name.startswith("-")]
    return (
        f"unknown command '{tokens[0]}'{did_you_mean(tokens[0], choices)}; "
        f"commands: {', '.join(choices)}"
    )


def describe_os_error(error: OSError) -> str:
    """What the operating system refused, and the way out."""
    where = f"'{error.filename}': " if error.filename else ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{where}{error.strerror}; free some space, then give the same command to continue"
    return f"{where}{error.strerror}; check the path and its permissions"


def _defect(error: Exception, *, as_json: bool) -> int:
    traceback.print_exception(error)
    message = f"this is a defect of hark, please report it: {type(error).__name__}: {error}"
    announce_error(message, as_json=as_json)
    return 1


def main() -> None:
    """Entry point of the `hark` command."""
    sys.exit(run(sys.argv[1:]))
