"""Where a model comes from: run by run, by their manifests, down to labels; and the other way.

A manifest names the files that a run read and the hash of each. A file in another run's directory
leads to that run; one in an export (`hark feedback export`) leads to a study, its labels and its
labelers. Nothing else is trusted: no name, no time, no order on the disk. No torch.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hark.errors import DataError, HarkError, RunError
from hark.feedback.export import LABELS_FILE, check_snapshot, read_about
from hark.runs.files import content_hash
from hark.runs.manifest import Manifest

Kind = Literal["run", "export", "file", "rating", "label"]
MANIFEST, ABOUT = "manifest.json", "snapshot.json"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One thing in the tree, and what it comes from (or, downwards, what came of it)."""

    kind: Kind
    name: str
    path: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    state: Literal["", "changed", "missing", "shown above"] = ""
    """Why it is not followed, or not to be relied on: its contents are not what was read."""
    children: tuple[Node, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain: dict[str, Any] = {"kind": self.kind, "name": self.name}
        if self.path is not None:
            plain["path"] = self.path
        if self.state:
            plain["state"] = self.state
        return {**plain, **self.facts, "children": [one.to_json() for one in self.children]}

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def trace(item: Path) -> Node:
    """The tree from a run, a checkpoint, a model, a file of a run, or an export back to labels.

    Raises: RunError if it is none of these.
    """
    owner = owner_of(item)
    if owner is None:
        what = "is in no" if item.exists() else "does not exist: name a"
        raise RunError(
            f"'{item}' {what} run directory or export of labels, which alone say where things come "
            "from"
        )
    return _export(owner) if (owner / ABOUT).is_file() else _run(owner, set())


def owner_of(path: Path) -> Path | None:
    """The run directory or the export that a path is or lies in."""
    path = path.absolute()
    for directory in (path, *path.parents):
        if (directory / MANIFEST).is_file() or (directory / ABOUT).is_file():
            return directory
    return None


def _run(directory: Path, seen: set[Path]) -> Node:
    manifest = Manifest.read(directory)
    facts: dict[str, Any] = {
        "stage": manifest.stage,
        "status": manifest.status,
        "fingerprint": manifest.fingerprint[:12],
        "commit": None if manifest.commit is None else manifest.commit[:12],
    }
    name = f"{manifest.stage} {manifest.name}".strip()
    if directory in seen:
        return Node(kind="run", name=name, path=str(directory), facts=facts, state="shown above")
    seen.add(directory)
    children = tuple(_inputs(directory, manifest, seen))
    return Node(kind="run", name=name, path=str(directory), facts=facts, children=children)


def _inputs(directory: Path, manifest: Manifest, seen: set[Path]) -> Iterator[Node]:
    """One node for each run, export or loose file that a run read."""
    read: dict[Path, dict[str, str]] = {}
    for text, hashed in manifest.inputs.items():
        path = moved_with(Path(text), directory)
        owner = owner_of(path) if path.exists() else None
        read.setdefault(owner or path, {})[str(path)] = hashed
    for owner, files in read.items():
        changed = any(
            Path(path).exists() and content_hash(Path(path)) != hashed
            for path, hashed in files.items()
        )
        yield _input(owner, next(iter(files.values())), seen, changed=changed)


def _input(owner: Path, hashed: str, seen: set[Path], *, changed: bool) -> Node:
    state: Literal["", "changed"] = "changed" if changed else ""
    if (owner / MANIFEST).is_file():
        node = _run(owner, seen)
    elif (owner / ABOUT).is_file():
        node = _export(owner)
    else:
        facts = {"hash": hashed[:12]}
        gone: Literal["", "changed", "missing"] = state if owner.exists() else "missing"
        return Node(kind="file", name=owner.name, path=str(owner), facts=facts, state=gone)
    if not state:
        return node
    return Node(
        kind=node.kind, name=node.name, path=node.path, facts=node.facts, state=state,
        children=node.children,
    )  # fmt: skip


def moved_with(path: Path, run: Path) -> Path:
    """Where an input lies now: where it lay, or beside the run that read it, if both were moved."""
    if path.exists():
        return path
    for above in run.parents:
        for place in range(1, len(path.parts)):
            beside = above.joinpath(*path.parts[place:])
            if len(path.parts) - place > 1 and beside.exists():
                return beside
    return path


def _export(directory: Path) -> Node:
    """An export: its study, and the labels and labelers in it."""
    study = _study(directory)
    state: Literal["", "changed"] = ""
    try:
        check_snapshot(directory)
    except HarkError:
        state = "changed"
    labels = labels_of(directory)
    rows = [row for row in event_rows(directory) if row["event_id"] in labels]
    labelers = collections.Counter(row["labeler"] for row in rows)
    facts = {
        "study": study["name"],
        "round": study["round"],
        "hash": directory.name.rpartition("-")[2],
        "labels": len(rows),
        "labelers": dict(labelers.most_common()),
        "snapshots": sorted(
            {one["snapshot"] for row in rows for one in row["candidates"]} - {None}
        ),
        "first_label": rows[0]["event_id"] if rows else None,
        "last_label": rows[-1]["event_id"] if rows else None,
    }
    name = f"study {study['name']}"
    return Node(kind="export", name=name, path=str(directory), facts=facts, state=state)


def _study(export: Path) -> dict[str, Any]:
    """Name and round of the study that an export is of. Raises: DataError if it does not say."""
    study = read_about(export).get("study")
    if not isinstance(study, dict) or not {"name", "round"} <= study.keys():
        raise DataError(
            f"'{export}' is no data snapshot: its snapshot.json names no study; export it again"
        )
    return study


def labels_of(export: Path) -> set[str]:
    """Ids of the events behind the records of an export, ratings beside comparisons among them."""
    data = export / read_about(export)["data"]
    if data.suffix != ".jsonl":
        return {row["event_id"] for row in event_rows(export)}
    found = _ids(data)
    # Formats of other tools have no place for an id; all that counted is in the events.
    found = found or {row["event_id"] for row in event_rows(export)}
    return found | _beside(export)


def _ids(file: Path) -> set[str]:
    found = (row.get("id") or row.get("event_id") for row in _rows(file))
    return {one for one in found if one}


def _beside(export: Path) -> set[str]:
    """Ids of labels kept beside the data, which no run reads that reads the data."""
    kept = export / LABELS_FILE
    return _ids(kept) if kept.exists() and read_about(export)["data"] != LABELS_FILE else set()


def event_rows(export: Path) -> list[dict[str, Any]]:
    """The canonical records of an export that have candidates, in order."""
    path = export / "events.jsonl"
    return [row for row in _rows(path, {"event_id", "labeler"}) if row.get("candidates")]


def _rows(path: Path, fields: Set[str] = frozenset()) -> Iterator[dict[str, Any]]:
    """Records that each have these fields. Raises: DataError with file and line."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _damaged(path, number, str(error)) from None
        if not isinstance(row, dict):
            raise _damaged(path, number, "it is no object")
        if missing := fields - row.keys():
            raise _damaged(path, number, f"it has no {', '.join(sorted(missing))}")
        yield row


def _damaged(path: Path, number: int, reason: str) -> DataError:
    return DataError(
        f"{path}:{number}: is not as hark wrote it ({reason}); make '{path.parent}' again"
    )


# Downwards


def descend(item: str, roots: Iterable[Path]) -> Node:
    """What came of a label (the id of an event), a study (its name), or an export or run directory.

    roots: directories below which runs and exports are looked for.
    Raises: RunError if nothing there knows of it.
    """
    below = _readers(roots)
    if Path(item).exists() and (owner := owner_of(Path(item))) is not None:
        return _descendants(owner, below, label=None)
    exports = [path for path in below.exports if _concerns(path, item)]
    if not exports:
        places = ", ".join(str(root) for root in roots) or "nowhere"
        raise RunError(
            f"'{item}' is no path, and no study or label of an export found in {places}: name "
            "where the loop or the runs are with --within"
        )
    is_study = any(_study(path)["name"] == item for path in exports)
    label = None if is_study else item
    children = tuple(_descendants(path, below, label=label) for path in exports)
    return Node(kind="file" if is_study else "label", name=item, children=children)


def _concerns(export: Path, item: str) -> bool:
    return _study(export)["name"] == item or item in labels_of(export)


@dataclass(frozen=True, kw_only=True)
class Readers:
    """Who read what, over all runs that were found."""

    exports: tuple[Path, ...]
    of: Mapping[Path, tuple[Path, ...]]
    """Run or export → the runs that read it."""


def _readers(roots: Iterable[Path]) -> Readers:
    exports: dict[Path, None] = {}
    readers: dict[Path, dict[Path, None]] = {}
    for root in roots:
        for found in sorted(root.absolute().rglob(ABOUT)):
            exports[found.parent] = None
        for found in sorted(root.absolute().rglob(MANIFEST)):
            run = found.parent
            for text in Manifest.read(run).inputs:
                owner = owner_of(moved_with(Path(text), run))
                if owner is not None:
                    readers.setdefault(owner, {})[run] = None
                    if (owner / ABOUT).is_file():
                        exports[owner] = None
    # Copies of an export have the same name, the hash in it; those that were read come first.
    named = {path.name: path for path in sorted(exports, key=lambda path: path in readers)}
    return Readers(
        exports=tuple(named.values()), of={key: tuple(value) for key, value in readers.items()}
    )


def _descendants(
    directory: Path, below: Readers, *, label: str | None, seen: set[Path] | None = None
) -> Node:
    """label: follow only runs that have it, where a run says which labels it passed on."""
    seen = set() if seen is None else seen
    again = directory in seen
    seen.add(directory)
    is_export = (directory / ABOUT).is_file()
    readers = () if again else below.of.get(directory, ())
    if is_export and label is not None and label in _beside(directory):
        readers = tuple(each for each in readers if _reads(each, directory / LABELS_FILE))
    children = [
        _descendants(reader, below, label=label, seen=seen)
        for reader in readers
        if label is None or _passed_on(reader, label)
    ]
    if is_export:
        node = _export(directory)
    else:
        manifest = Manifest.read(directory)
        has_model = (directory / "model").is_dir() or (directory / "adapter").is_dir()
        node = Node(
            kind="run", name=f"{manifest.stage} {manifest.name}".strip(), path=str(directory),
            facts={"stage": manifest.stage, "status": manifest.status, "model": has_model},
        )  # fmt: skip
    above = again and directory in below.of
    return Node(
        kind=node.kind, name=node.name, path=node.path, facts=node.facts,
        state="shown above" if above else node.state, children=tuple(children),
    )  # fmt: skip


def _reads(run: Path, file: Path) -> bool:
    return any(moved_with(Path(text), run) == file for text in Manifest.read(run).inputs)


def _passed_on(run: Path, label: str) -> bool:
    """Whether a label is in what a run made of comparisons; true of runs that make none."""
    made = run / "data" / "comparisons.jsonl"
    if Manifest.read(run).stage != "merge" or not made.exists():
        return True
    return any(row.get("id") == label for row in _rows(made))
