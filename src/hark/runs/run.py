"""A run directory: made once, never overwritten, continued after an interruption.

    with Run.start(stage="sft", settings=settings, inputs=[...], code=("data", "models")) as run:
        run.metrics.log(step=1, loss=2.3)
        ...
        run.finish({"loss": 2.1})

An interrupted run with the same fingerprint is taken up again by the same command; a complete one
is left alone and a new directory is made (or reused, when a recipe asks for it).
"""

from __future__ import annotations

import dataclasses
import datetime
import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from hark.errors import RunError
from hark.runs.files import content_hash, explain_disk_errors, write_json
from hark.runs.manifest import (
    Manifest,
    Status,
    code_version,
    commit_of_checkout,
    installed_versions,
)
from hark.runs.metrics import MetricsWriter, SilentWriter
from hark.runs.settings import StageSettings
from hark.runs.timing import FILE as TIMING
from hark.runs.timing import TimeSpent


class Run:
    """An open run directory; `start` makes or continues one."""

    def __init__(self, path: Path, manifest: Manifest, *, resumed: bool, lock: IO[str]) -> None:
        self.path = path
        self.manifest = manifest
        self.resumed = resumed
        """Whether an interrupted run is being continued."""
        self.metrics = MetricsWriter(path / "metrics.jsonl")
        """Deterministic values only: bit-identical after any interruption (CPU)."""
        self.timing = MetricsWriter(path / TIMING)
        """Wall-clock values, which no test compares."""
        self._lock = lock

    @property
    def stage(self) -> str:
        return self.manifest.stage

    @classmethod
    def start(
        cls,
        *,
        stage: str,
        settings: StageSettings,
        inputs: Sequence[Path] = (),
        parents: Sequence[Path] = (),
        command: Sequence[str] = (),
        code: Sequence[str] = (),
    ) -> Self:
        """Make a run directory below `settings.output`, or take up the interrupted one.

        `inputs` are files and directories whose contents decide the result; `code` names the units
        of hark that do. Raises: RunError if an input is missing or the disk refuses.
        """
        hashes = {str(path): content_hash(path) for path in inputs}
        print_ = fingerprint(stage, settings, hashes, code)
        interrupted = _claim_interrupted(settings.output, stage, print_)
        if interrupted is not None:
            path, lock = interrupted
            manifest = dataclasses.replace(Manifest.read(path), status="running", message=None)
            manifest.write(path)
            return cls(path, manifest, resumed=True, lock=lock)
        commit, dirty = commit_of_checkout()
        manifest = Manifest(
            stage=stage, name=settings.name, status="running", command=tuple(command),
            fingerprint=print_, seed=settings.seed, device=settings.device, dtype=settings.dtype,
            started=_now(), finished=None, message=None, commit=commit, dirty=dirty,
            versions=installed_versions(), parents=tuple(str(parent) for parent in parents),
            inputs=hashes,
        )  # fmt: skip
        path, lock = _make_directory(settings.output, stage, settings.name)
        write_json(
            path / "config.json",
            {"effective": settings.model_dump(mode="json"), "given": settings.given()},
        )
        manifest.write(path)
        return cls(path, manifest, resumed=False, lock=lock)

    def checkpoint_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:06d}"

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*"), key=_step_of)

    def latest_checkpoint(self) -> Path | None:
        return next(reversed(self.checkpoints()), None)

    def keep_checkpoints(self, count: int) -> None:
        """Delete all but the newest `count` checkpoints."""
        for old in self.checkpoints()[:-count]:
            shutil.rmtree(old)

    def rewind(self, step: int) -> None:
        """Drop the metrics after `step`, which the run is about to write again."""
        self.metrics.rewind(step)
        self.timing.rewind(step)

    @property
    def model_path(self) -> Path:
        """Where the stage leaves its final or chosen model, a Hugging Face directory."""
        return self.path / "model"

    def samples_path(self, step: int) -> Path:
        path = self.path / "samples" / f"step-{step:06d}.jsonl"
        with explain_disk_errors(path):
            path.parent.mkdir(exist_ok=True)
        return path

    def data_path(self, name: str) -> Path:
        """Where the stage leaves a file that others read."""
        path = self.path / "data" / name
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def profile_path(self) -> Path:
        """The directory of a trace of a few steps, where one was asked for."""
        return self.path / "profile"

    @property
    def skipped_path(self) -> Path:
        """The directory that keeps malformed rows that were skipped."""
        return self.path / "skipped"

    def writer(self, name: str) -> MetricsWriter:
        """A file of records of the run's own, beside the metrics."""
        return MetricsWriter(self.path / name)

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write the results, then, last, say that the run is complete."""
        write_json(self.path / "results.json", dict(results))
        self._end("complete")

    def fail(self, message: str) -> None:
        self._end("failed", message)

    def _end(self, status: Status, message: str | None = None) -> None:
        spent = TimeSpent.read(self.path)
        self.manifest = dataclasses.replace(
            self.manifest, status=status, finished=_now(), message=message,
            time=None if spent is None else spent.to_json(),
        )  # fmt: skip
        self.manifest.write(self.path)
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.manifest.status != "running":
            return
        try:
            if kind is None or issubclass(kind, KeyboardInterrupt):
                self._end("interrupted")
            else:
                self.fail(f"{kind.__name__}: {error}")
        except RunError:
            # A full disk refuses the manifest too; the error already under way says more.
            if error is None:
                raise
        finally:
            self._lock.close()


class FollowedRun(Run):
    """The run directory as the other processes of a run see it: read, never written.

    Its first process holds the lock and writes; what these would write goes nowhere.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = Manifest.read(path)
        self.resumed = False
        self.metrics = SilentWriter(path / "metrics.jsonl")
        self.timing = SilentWriter(path / TIMING)
        self._nowhere = tempfile.TemporaryDirectory(prefix="hark-")

    def keep_checkpoints(self, count: int) -> None:
        return

    def samples_path(self, step: int) -> Path:
        return Path(self._nowhere.name) / f"step-{step:06d}.jsonl"

    @property
    def skipped_path(self) -> Path:
        return Path(self._nowhere.name) / "skipped"

    def writer(self, name: str) -> MetricsWriter:
        return SilentWriter(self.path / name)

    def finish(self, results: Mapping[str, Any]) -> None:
        return

    def fail(self, message: str) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._nowhere.cleanup()


def fingerprint(
    stage: str, settings: StageSettings, input_hashes: Mapping[str, str], code: Sequence[str]
) -> str:
    """Hash of what decides a stage's result; where its inputs lie and where it writes do not."""
    values = settings.model_dump(mode="json", exclude=set(settings.without_effect))
    values = _replace_paths(values, input_hashes)
    text = json.dumps(
        [stage, values, sorted(input_hashes.values()), code_version(tuple(code))], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _replace_paths(value: Any, hashes: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replace_paths(item, hashes) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_paths(item, hashes) for item in value]
    return _without_place(value, hashes) if isinstance(value, str) else value


def _without_place(text: str, hashes: Mapping[str, str]) -> str:
    """The hash in place of a path; `path=weight` keeps its weight, a run stands for its model."""
    path, sign, weight = text.rpartition("=")
    for name, rest in ((text, ""), (str(Path(text) / "model"), ""), (path, sign + weight)):
        if name in hashes:
            return hashes[name] + rest
    return text


def find_complete(output: Path, stage: str, print_: str) -> Path | None:
    """The newest complete run of this fingerprint below `output`."""
    for path in _runs_of(output, stage):
        manifest = _manifest_or_none(path)
        if manifest and manifest.status == "complete" and manifest.fingerprint == print_:
            return path
    return None


def is_endpoint(model: Path | str) -> bool:
    """Whether a model is named by the URL of an endpoint."""
    # A path has only one of the two slashes left.
    return str(model).startswith(("http:/", "https:/"))


def resolve_model(path: Path | str) -> Path:
    """A run directory stands for the model it made; any other path for itself.

    Raises: RunError if the run has not made a model, or the path is an endpoint's URL.
    """
    if is_endpoint(path):
        raise RunError(
            f"'{path}' is an endpoint, from which hark can only sample (sample, compare, and "
            "evaluate with a baseline and a judge); give a model directory, a run or a Hub name"
        )
    path = Path(path)
    if not (path / "manifest.json").is_file():
        return path
    model = path / "model"
    if not model.is_dir():
        manifest = Manifest.read(path)
        if manifest.status == "complete":
            raise RunError(
                f"run '{path}' of hark {manifest.stage} is complete and has no model; name a run "
                "that trains one, or a model directory"
            )
        raise RunError(
            f"run '{path}' (status: {manifest.status}) has no model; give the command that made it "
            "again to finish it, or name one of its checkpoints"
        )
    return model


def read_results(path: Path) -> dict[str, Any]:
    """The results of a complete run. Raises: RunError if it has none."""
    try:
        results: dict[str, Any] = json.loads((path / "results.json").read_text(encoding="utf-8"))
    except OSError:
        raise RunError(f"run '{path}' has no results yet: it is not complete") from None
    return results


def _runs_of(output: Path, stage: str) -> list[Path]:
    return sorted(output.glob(f"*-{stage}*/"), reverse=True) if output.is_dir() else []


def _manifest_or_none(path: Path) -> Manifest | None:
    try:
        return Manifest.read(path)
    except RunError:
        return None


def _claim_interrupted(output: Path, stage: str, print_: str) -> tuple[Path, IO[str]] | None:
    for path in _runs_of(output, stage):
        manifest = _manifest_or_none(path)
        if manifest and manifest.fingerprint == print_ and manifest.status != "complete":
            lock = _lock(path)
            # Whoever held the lock may have completed the run since its manifest was read.
            if lock is not None and Manifest.read(path).status != "complete":
                return path, lock
            if lock is not None:
                lock.close()
    return None


def _make_directory(output: Path, stage: str, name: str) -> tuple[Path, IO[str]]:
    if name and not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise RunError(f"name '{name}' may hold letters, digits, '-', '_' and '.' only")
    time = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    stem = "-".join(part for part in (time, stage, name) if part)
    with explain_disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, 1000):
            path = output / (stem if attempt == 1 else f"{stem}-{attempt}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            lock = _lock(path)
            if lock is not None:
                return path, lock
    raise RunError(f"'{output}' already holds a thousand runs named '{stem}'")


def _lock(path: Path) -> IO[str] | None:
    """Hold the directory for this process's life; None if a living process already does."""
    file = (path / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
