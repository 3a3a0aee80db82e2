"""What a data snapshot says to its readers, gathered label by label while it is written."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict

import numpy as np

from hark.feedback import events
from hark.feedback.agreement import Agreement, agreement_of_counts
from hark.feedback.events import Event
from hark.feedback.judgements import COMPARES, ranks_of
from hark.feedback.statistics_columns import key_of, place_of
from hark.feedback.studies import Study


class Tally:
    """Of the labels in a snapshot, and of those that were left out."""

    def __init__(self) -> None:
        self.labels = 0
        self.ratings = 0
        """Of the labels: ratings on axes, which are no comparisons."""
        self.left_out: Counter[str] = Counter()
        """Reason → labels."""
        self.people_left_out = defaultdict[str, set[str]](set)
        """Reason → labelers, where the reason is who gave the label."""
        self._items: set[int] = set()
        self._labelers: set[str] = set()
        self._models: set[str] = set()
        self._first_at = self._last_at = 0.0
        self._milliseconds = array("q")
        self._subjects, self._signs = array("q"), array("b")
        self._attacked = False

    def leave_out(self, event: Event, why: str, *, for_who: bool = False) -> None:
        """A label that is not in the snapshot."""
        self.left_out[why] += 1
        if for_who:
            self.people_left_out[why].add(event.author)

    def take(self, event: Event) -> None:
        """A label that is."""
        if not self.labels:
            self._first_at = event.created_at
        self.labels += 1
        self.ratings += event.kind == "axes"
        self._last_at = event.created_at
        self._items.add(key_of(event.item_id or ""))
        self._labelers.add(event.author)
        candidates = event.body["candidates"]
        self._models |= {one["snapshot"] for one in candidates} - {None}
        active = event.body.get("client", {}).get("ms_active")
        if active is not None:
            self._milliseconds.append(active)
        self._attacked |= event.body["context"]["task"].get("mode") == "redteam"
        # Live dialogues have no pair in common.
        if event.kind in COMPARES - {"comparison"}:
            ranks = ranks_of(event, [one["id"] for one in candidates])
            for i in range(len(ranks)):
                for j in range(i + 1, len(ranks)):
                    self._subjects.append(key_of(f"{event.item_id} {place_of((None, i, j))}"))
                    self._signs.append((ranks[i] < ranks[j]) - (ranks[i] > ranks[j]))

    def card(self, study: Study, *, kind: str, uses: tuple[str, ...], format: str) -> str:
        """What a reader of the data must know, in Markdown; the same for the same labels."""
        given = study.settings
        seconds = np.sort(np.array(self._milliseconds)) / 1000
        percent, alpha = self._agreement()
        rows = {
            "labels": str(self.labels),
            **({"ratings on axes, in `labels.jsonl`": str(self.ratings)} if self.ratings else {}),
            "items": str(len(self._items)),
            "labelers": str(len(self._labelers)),
            "first and last label": " to ".join(
                events.iso_time(one) for one in (self._first_at, self._last_at)
            ),
            "models": ", ".join(sorted(self._models)) or "none named",
            "median seconds at work": f"{seconds[len(seconds) // 2]:.1f}"
            if len(seconds)
            else "not known",
            "agreement of pairs": _said(percent),
            "Krippendorff's alpha (nominal)": _said(alpha),
        }
        table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
        left_out = "\n".join(f"* {self._line(why)}" for why in self.left_out)
        inverted = (
            "\nRed-team labelers picked the more harmful response; here the other one is the "
            "better.\n"
            if self._attacked
            else ""
        )
        return (
            f"# {given.title}\n\n"
            f"{kind.capitalize()} of study `{given.name}`, round {given.round}, for "
            f"{' and '.join(uses)}, in format `{format}`.\n{inverted}\n"
            f"| | |\n|---|---|\n{table}\n\n## Left out\n\n{left_out or '* nothing'}\n\n"
            f"## Instructions to the labelers\n\n{given.instructions}\n\n"
            "Labelers are named by drawn pseudonyms. Every label, superseded ones too, is in "
            "`events.jsonl`" + (_EXCEPT if self.people_left_out else "") + ".\n"
        )

    def _line(self, why: str) -> str:
        people = len(self.people_left_out.get(why, ()))
        who = f" ({people} {'person' if people == 1 else 'people'})" if people else ""
        return f"{self.left_out[why]} {why}{who}"

    def _agreement(self) -> tuple[Agreement, Agreement]:
        subjects, row = np.unique(np.array(self._subjects, np.int64), return_inverse=True)
        column = np.array(self._signs, np.int64) + 1
        counts = np.bincount(row * 3 + column, minlength=3 * len(subjects))
        return agreement_of_counts(
            counts.reshape(len(subjects), 3), np.array([-1.0, 0.0, 1.0]), "nominal"
        )


_EXCEPT = ", except those of the labelers who are left out"


def _said(agreement: Agreement) -> str:
    if agreement.value is None:
        return f"undefined: {agreement.state}"
    return f"{agreement.value:.3f} over {agreement.units} pairs"
