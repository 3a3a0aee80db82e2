"""Every stage by name: its settings, what it reads, and the function that runs it.

A stage is one run directory. Training never imports evaluation; where a stage needs both, as PPO
needs a score, they are put together here and in the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hark.loop.best_of_curve import BestOfSettings, run_best_of
from hark.loop.candidates import ItemsSettings, items_inputs, run_items
from hark.loop.comparing import CompareSettings, compare_inputs, run_compare
from hark.loop.distilling import run_distill
from hark.loop.evaluating import EvaluateSettings, run_evaluate
from hark.loop.inputs import data_files, model_files
from hark.loop.labelling import LabelSettings, run_label
from hark.loop.merging import MergeSettings, merge_inputs, run_merge
from hark.loop.online.stage import OnlineSettings, online_inputs, run_online
from hark.loop.outliers import OutliersSettings, guard_files, run_outliers
from hark.loop.playground_prompts import PlaygroundPromptsSettings, run_playground_prompts
from hark.loop.preference_training import run_preference
from hark.loop.preparing import PrepareStageSettings, run_prepare
from hark.loop.rating import RateSettings, rate_inputs, run_rate
from hark.loop.rehearsing import RehearseSettings, run_rehearse
from hark.loop.reporting import ReportSettings, run_report
from hark.loop.sampling import SampleSettings, run_sample
from hark.loop.studying import StudySettings, run_study
from hark.loop.tournament import TournamentSettings, run_tournament, tournament_inputs
from hark.loop.training import PPOStageSettings, run_ppo, run_sft
from hark.loop.tranches import TranchesSettings, run_tranches, tranches_inputs
from hark.models.processes import from_first, join, lost_processes_explained, wait_for_all
from hark.playground.opinions import OpinionSettings, write_opinions
from hark.playground.world import PlaygroundSettings, write_world
from hark.runs.files import content_hash
from hark.runs.run import FollowedRun, Run, find_complete, fingerprint, read_results
from hark.runs.settings import StageSettings
from hark.training import pretrain
from hark.training.distill_settings import DistillSettings
from hark.training.preference_settings import PreferenceSettings
from hark.training.pretrain import PretrainSettings
from hark.training.sft import SFTSettings
from hark.training.trainer import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One kind of run."""

    name: str
    summary: str
    """One sentence for the command's help."""
    settings: type[StageSettings]
    function: Callable[[Any, Run], Mapping[str, Any]]
    """Does the work in the run directory and returns its results."""
    inputs: Callable[[Any], list[Path]]
    """Files and directories whose contents decide the result."""
    code: tuple[str, ...]
    """Units of hark whose sources decide the result; part of the fingerprint."""
    shared: bool = False
    """Whether all processes that torchrun started take part; if not, the first one does the work
    and the others wait."""


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """A stage, done."""

    run_path: Path
    results: dict[str, Any]
    reused: bool
    """Whether an earlier complete run was taken instead of running."""


def run_stage(
    name: str, settings: StageSettings, *, command: Sequence[str], reuse_complete: bool = False
) -> StageOutcome:
    """Run a stage, continue its interrupted run, or (`reuse_complete`) take a complete one.

    Raises: HarkError for what a person can mend.
    """
    join(settings.device)
    stage = STAGES[name]
    own: list[Run] = []

    def start() -> StageOutcome | Path:
        inputs = stage.inputs(settings)
        if reuse_complete and (complete := _complete(stage, settings, inputs)) is not None:
            return StageOutcome(run_path=complete, results=read_results(complete), reused=True)
        run = Run.start(
            stage=name, settings=settings, inputs=inputs, parents=_parents(inputs),
            command=command, code=stage.code,
        )  # fmt: skip
        own.append(run)
        return run.path

    started = from_first(start)
    if isinstance(started, StageOutcome):
        return started
    with lost_processes_explained(), own[0] if own else FollowedRun(started) as run:
        if stage.shared:
            results = dict(stage.function(settings, run))
        else:
            results = from_first(lambda: dict(stage.function(settings, run)))
        run.finish(results)
        wait_for_all()
    return StageOutcome(run_path=started, results=results, reused=False)


def _complete(stage: Stage, settings: StageSettings, inputs: Sequence[Path]) -> Path | None:
    """An earlier complete run of the same stage, settings, inputs and code, with what is asked."""
    hashes = {str(path): content_hash(path) for path in inputs}
    wanted = fingerprint(stage.name, settings, hashes, stage.code)
    complete = find_complete(settings.output, stage.name, wanted)
    to_profile = isinstance(settings, TrainingSettings) and settings.profile_steps > 0
    if complete is not None and to_profile and not (complete / "profile").is_dir():
        return None
    return complete


def _parents(inputs: Sequence[Path]) -> list[Path]:
    """The run directories that the inputs lie in."""
    found: dict[Path, None] = {}
    for path in inputs:
        for directory in (path, *path.parents):
            if (directory / "manifest.json").is_file():
                found[directory] = None
                break
    return list(found)


def _files(*fields: str) -> Callable[[StageSettings], list[Path]]:
    """The existing files and directories named in these fields of the settings.

    A Hub name has no contents here to hash; see `hark.loop.inputs`.
    """

    def inputs(settings: StageSettings) -> list[Path]:
        found: dict[Path, None] = {}
        for field in fields:
            value = getattr(settings, field)
            files_of = data_files if "data" in field else model_files
            for item in value if isinstance(value, tuple) else (value,):
                for path in files_of(str(item)) if item else ():
                    found[path] = None
        return list(found)

    return inputs


def _sample_inputs(settings: SampleSettings) -> list[Path]:
    named = _files("data", "model", "examples", "scorer")(settings)
    guard = settings.refuse_out_of_distribution
    return named if guard is None else named + guard_files(guard)


class PlaygroundStageSettings(StageSettings, PlaygroundSettings):
    """Write the built-in world: texts, demonstrations and prompts."""


def _run_playground(settings: PlaygroundStageSettings, run: Run) -> dict[str, Any]:
    return dict(write_world(run.path / "data", settings))


class OpinionStageSettings(StageSettings, OpinionSettings):
    """Write comparisons of the built-in world in kinds that pull apart."""


def _run_opinions(settings: OpinionStageSettings, run: Run) -> dict[str, Any]:
    return dict(write_opinions(run.path / "data", settings))


TRAINING = ("data", "models", "training")
SPEAKING = (
    "loop/speaker.py", "loop/remote_speaker.py", "serving/endpoint.py", "loop/judges.py",
)  # fmt: skip

_ALL = (
    Stage(
        name="playground",
        summary="Write the built-in world's texts, demonstrations and prompts.",
        settings=PlaygroundStageSettings,
        function=_run_playground,
        inputs=_files(),
        code=("data", "playground"),
    ),
    Stage(
        name="playground-comparisons",
        summary="Write the built-in world's comparisons: helpful, harmless, voted, binary.",
        settings=OpinionStageSettings,
        function=_run_opinions,
        inputs=_files(),
        code=("data", "playground"),
    ),
    Stage(
        name="playground-prompts",
        summary="Part the built-in world's prompts by whether they are of one family.",
        settings=PlaygroundPromptsSettings,
        function=run_playground_prompts,
        inputs=_files("data"),
        code=("data", "playground", "loop/playground_prompts.py"),
    ),
    Stage(
        name="prepare",
        summary="Clean and split data as InstructGPT did; every removal can be reviewed.",
        settings=PrepareStageSettings,
        function=run_prepare,
        inputs=_files("data"),
        code=("data", "loop/preparing.py"),
    ),
    Stage(
        name="pretrain",
        summary="Train a small language model from text.",
        settings=PretrainSettings,
        function=pretrain.train,
        inputs=_files("data", "evaluation_data", "model", "tokenizer"),
        code=TRAINING,
        shared=True,
    ),
    Stage(
        name="distill",
        summary="Teach a model to behave without a context as it does with it.",
        settings=DistillSettings,
        function=run_distill,
        inputs=lambda settings: [
            settings.context,
            *_files("data", "question_data", "evaluation_data", "model")(settings),
        ],
        code=(*TRAINING, "evaluation", "loop/distilling.py"),
        shared=True,
    ),
    Stage(
        name="sft",
        summary="Teach a language model by demonstrations.",
        settings=SFTSettings,
        function=run_sft,
        inputs=_files("data", "evaluation_data", "model", "pretraining_data", "scorer"),
        code=(*TRAINING, "loop/training.py", "loop/judges.py"),
        shared=True,
    ),
    Stage(
        name="sample",
        summary="Let a model answer prompts.",
        settings=SampleSettings,
        function=run_sample,
        inputs=_sample_inputs,
        code=("data", "models", *SPEAKING, "loop/sampling.py"),
        shared=True,
    ),
    Stage(
        name="label",
        summary="Let a labeler judge the answers of models.",
        settings=LabelSettings,
        function=run_label,
        inputs=_files("data", "labeler"),
        code=("data", "models", "playground", "loop/labelling.py", "loop/judges.py"),
    ),
    Stage(
        name="items",
        summary="Let snapshots answer prompts, as items of a study.",
        settings=ItemsSettings,
        function=run_items,
        inputs=items_inputs,
        code=("data", "models", *SPEAKING, "loop/candidates.py", "web/live/turns.py"),
        shared=True,
    ),
    Stage(
        name="merge",
        summary="Merge tranches of comparisons into one training set.",
        settings=MergeSettings,
        function=run_merge,
        inputs=merge_inputs,
        code=("data", "loop/merging.py"),
    ),
    Stage(
        name="preference",
        summary="Train a preference model on comparisons.",
        settings=PreferenceSettings,
        function=run_preference,
        inputs=_files("data", "evaluation_data", "model", "normalise_data"),
        code=(
            *TRAINING,
            "evaluation/preference_accuracy.py",
            "evaluation/calibration.py",
            "evaluation/intervals.py",
            "loop/preference_training.py",
        ),
        shared=True,
    ),
    Stage(
        name="ppo",
        summary="Improve a language model against a preference model or another scorer.",
        settings=PPOStageSettings,
        function=run_ppo,
        inputs=_files(
            "data",
            "model",
            "preference_model",
            "value_model",
            "pretraining_data",
            "evaluation_data",
            "evaluation_text",
            "judge",
        ),
        code=(*TRAINING, "evaluation", "playground", "loop/training.py", "loop/judges.py"),
        shared=True,
    ),
    Stage(
        name="evaluate",
        summary="Measure win rate, preference accuracy, loss or multiple choice.",
        settings=EvaluateSettings,
        function=run_evaluate,
        inputs=_files("data", "model", "baseline", "judge"),
        code=("data", "models", "evaluation", "playground", *SPEAKING, "loop/evaluating.py"),
        shared=True,
    ),
    Stage(
        name="best-of",
        summary="Measure the best of n replies by a preference model, against its KL.",
        settings=BestOfSettings,
        function=run_best_of,
        inputs=_files("data", "model", "preference_model", "judge"),
        code=("data", "models", "evaluation", "playground", *SPEAKING, "loop/best_of_curve.py"),
        shared=True,
    ),
    Stage(
        name="compare",
        summary="Measure several policies side by side: one table, one row a policy.",
        settings=CompareSettings,
        function=run_compare,
        inputs=compare_inputs,
        code=("data", "models", "evaluation", "playground", *SPEAKING, "loop/comparing.py"),
        shared=True,
    ),
    Stage(
        name="tranches",
        summary="Measure tranches of comparisons by a preference model.",
        settings=TranchesSettings,
        function=run_tranches,
        inputs=tranches_inputs,
        code=("data", "models", "evaluation", "playground", "loop/judges.py", "loop/tranches.py"),
    ),
    Stage(
        name="online",
        summary="Iterated online training with simulated labelers.",
        settings=OnlineSettings,
        function=run_online,
        inputs=online_inputs,
        code=(
            *TRAINING,
            *SPEAKING,
            "evaluation",
            "feedback",
            "web",
            "serving",
            "playground",
            "loop/online",
            "loop/simulation",
            "loop/candidates.py",
            "loop/merging.py",
            "loop/tranches.py",
            "loop/training.py",
            "loop/comparing.py",
        ),
    ),
    Stage(
        name="outliers",
        summary="Fit a detector of prompts unlike those a model was made for.",
        settings=OutliersSettings,
        function=run_outliers,
        inputs=_files("data", "outlier_data", "model"),
        code=("data", "models", "evaluation", "loop/outliers.py"),
    ),
    Stage(
        name="study",
        summary="Say what several runs together found of what a paper claims.",
        settings=StudySettings,
        function=run_study,
        inputs=lambda settings: list(settings.runs),
        code=("data", "evaluation", "report", "loop/studying.py", "loop/studies"),
    ),
    Stage(
        name="rate",
        summary="Rate models by votes: Elo with intervals, and who won how often against whom.",
        settings=RateSettings,
        function=run_rate,
        inputs=rate_inputs,
        code=("data", "evaluation", "feedback", "loop/votes.py", "loop/rating.py"),
    ),
    Stage(
        name="tournament",
        summary="Compare every policy with every other: Elo by several judges on the same replies.",
        settings=TournamentSettings,
        function=run_tournament,
        inputs=tournament_inputs,
        code=(
            "data",
            "models",
            "evaluation",
            "feedback",
            "playground",
            *SPEAKING,
            "loop/votes.py",
            "loop/rating.py",
            "loop/tournament.py",
        ),
        shared=True,
    ),
    Stage(
        name="rehearse",
        summary="Simulate a study of votes: how wide its intervals are, and whether they hold.",
        settings=RehearseSettings,
        function=run_rehearse,
        inputs=_files(),
        code=("evaluation", "loop/rating.py", "loop/rehearsing.py"),
    ),
    Stage(
        name="report",
        summary="Make one self-contained HTML page of runs.",
        settings=ReportSettings,
        function=run_report,
        inputs=lambda settings: list(settings.runs),
        code=("evaluation", "report", "loop/reporting.py"),
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in _ALL}
