"""The stage `study`: what several runs together say about a paper's claims; and their page."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from hark.errors import DataError, RunError, did_you_mean
from hark.loop.studies import ANALYSES
from hark.report.effects import VERDICTS, Effect, overview, section
from hark.report.run_record import RunRecord
from hark.runs.run import Run
from hark.runs.settings import StageSettings
from hark.training.examples import Paths


class StudySettings(StageSettings):
    """Say what several runs together found of what a paper claims."""

    analysis: str
    """What to look for; docs/preference-models.md and docs/policies.md say what each asks."""
    runs: Paths = Field(min_length=1)
    """Run directories of the study."""

    @field_validator("analysis")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ANALYSES:
            known = ", ".join(sorted(ANALYSES))
            raise ValueError(f"unknown{did_you_mean(name, ANALYSES)}; known: {known}")
        return name


def run_study(settings: StudySettings, run: Run) -> dict[str, Any]:
    """Analyse; figures go into the run directory."""
    records = [RunRecord.read(path) for path in settings.runs]
    effects = ANALYSES[settings.analysis](records, run.path)
    return {"analysis": settings.analysis, "effects": [each.to_json() for each in effects]}


def effects_of(record: RunRecord) -> list[Effect]:
    """The effects that a study's run found. Raises: RunError if its results are damaged."""
    try:
        return [Effect.from_json(values) for values in record.results["effects"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"the results.json of the study '{record.path}' holds no effects that this hark can "
            f"read ({type(error).__name__}: {error}); give the command that made it again"
        ) from None


def write_replication(
    paths: Sequence[Path], *, title: str, into: Path, introduction: Path | None = None
) -> dict[str, int]:
    """Write `<into>.md` and, in the directory `into`, its figures; how often each verdict fell.

    Of several runs of one analysis and name, the newest that is complete counts: a study run again
    replaces itself. Raises: RunError if a path is no run of `hark study` or none of its name is
    complete; DataError if the introduction cannot be read.
    """
    if not paths:
        raise RunError("there is nothing to write: name run directories of hark study")
    studies = _newest_complete([_study(path) for path in paths])
    parts = [f"# {title}", *_introduction(introduction)]
    found = _told_apart(studies)
    effects = [effect for _, effect in found]
    parts += [overview(effects), "## Effect by effect"]
    into.mkdir(parents=True, exist_ok=True)
    copies: dict[str, Path] = {}
    for study, effect in found:
        figure = _copied(study, effect.figure, into, copies) if effect.figure else None
        parts.append(section(effect, figure=figure))
    parts += ["## Where the numbers come from", "\n".join(map(_origin, studies))]
    into.with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return {name: sum(effect.verdict == name for effect in effects) for name in VERDICTS}


def _study(path: Path) -> RunRecord:
    study = RunRecord.read(path)
    if study.manifest.stage != "study":
        raise RunError(f"'{path}' is a run of '{study.manifest.stage}'; give runs of hark study")
    return study


def _newest_complete(studies: Sequence[RunRecord]) -> list[RunRecord]:
    """One run of each analysis and name, in the order in which they come first."""

    def name_of(study: RunRecord) -> tuple[str, str]:
        return study.settings["analysis"], study.label

    found: dict[tuple[str, str], RunRecord | None] = {name_of(study): None for study in studies}
    for study in sorted(studies, key=lambda each: each.manifest.started):
        if study.manifest.status == "complete":
            found[name_of(study)] = study
    if missing := [name for name, study in found.items() if study is None]:
        raise RunError(
            f"the study '{missing[0][1]}' is not complete; give the command that began it again"
        )
    return [study for study in found.values() if study is not None]


def _introduction(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [path.read_text(encoding="utf-8").strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the introduction '{path}' cannot be read: {error}") from None


def _told_apart(studies: Sequence[RunRecord]) -> list[tuple[RunRecord, Effect]]:
    """Every effect; one found by an earlier study too has the name of its own study in its name."""
    found: dict[str, tuple[RunRecord, Effect]] = {}
    for study in studies:
        for effect in effects_of(study):
            again = effect.name in found
            name = f"{effect.name} ({study.label})" if again else effect.name
            found[name] = (study, replace(effect, name=name))
    return list(found.values())


def _copied(study: RunRecord, figure: str, into: Path, copies: dict[str, Path]) -> str:
    """Copy a figure beside the page; its path as seen from the page.

    copies: whose figures have which names there already; added to.
    """
    taken = copies.get(figure, study.path) != study.path
    name = f"{study.label}-{figure}" if taken else figure
    copies[name] = study.path
    shutil.copyfile(study.path / figure, into / name)
    return f"{into.name}/{name}"


def _origin(study: RunRecord) -> str:
    date = study.manifest.started[:10]
    sources = len(study.manifest.parents)
    return (
        f"* {study.label}: `{study.settings['analysis']}` over {sources} runs, {date}, "
        f"commit {study.code}"
    )
