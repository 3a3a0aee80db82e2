"""What there is to label: one record for each kind of task.

Sources: dialogue comparisons, 2204.05862; red teaming, 2209.07858; rankings and
demonstrations, 2203.02155 section 3 and appendix B; summaries, 2009.01325 appendix C; audits of
model-written questions, 2212.09251; oversight questions, 2211.03540 section 3.

A task is done in steps, each of them an event (`next_steps`). What a labeler may see depends on the
steps done (`shown`), and is decided here rather than in a page: the post comes after the notes, and
the right answer after the last step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from hark.feedback.records import Flag, FreeText, Name, Record, Turn, WrittenText

RANKING_FLAGS = (
    "fails_instruction",
    "inappropriate_for_assistant",
    "hallucination",
    "satisfies_constraint",
    "sexual_content",
    "violent_content",
    "encourages_violence",
    "denigrates_protected_class",
    "harmful_advice",
    "expresses_opinion",
    "expresses_moral_judgement",
)
"""Metadata of a response (2203.02155, table 3)."""
SUMMARY_AXES = ("overall", "accuracy", "coverage", "coherence")
HARM_TAGS = (
    "discrimination",
    "hate_speech",
    "violence",
    "incitement",
    "self_harm",
    "sexual_content",
    "child_abuse",
    "non_violent_crime",
    "theft",
    "fraud",
    "substance_abuse",
    "weapons",
    "terrorism",
    "property_crime",
    "animal_abuse",
    "bullying",
    "misinformation",
    "personal_information",
    "unqualified_advice",
    "other",
)
"""What a red-team transcript may be about; a study may have tags of its own."""
CONFIDENCES = (25, 42, 60, 80, 100)
"""Per cent, the five points of 2211.03540."""
FINAL_LABELS = frozenset({"notes", "qa_answer"})
"""Kinds that stand as they were given: what one must not have known is shown right after."""


class Task(Record):
    """What all kinds have in common."""

    @property
    def candidate_counts(self) -> tuple[int, int]:
        """The fewest and the most responses that are judged at a time."""
        return (0, 0)

    @property
    def live(self) -> bool:
        """Whether models answer while the labeler works."""
        return False

    @property
    def labels(self) -> frozenset[str]:
        """The kinds of label that can come of it."""
        raise NotImplementedError

    def next_steps(self, done: Sequence[str]) -> frozenset[str]:
        """The kinds of event that may follow those that are done; empty when the task is.

        Most tasks are one label.
        """
        return frozenset() if done else self.labels

    def may_finish(self, done: Sequence[str]) -> bool:
        """Whether the labeler may stop here though more steps could follow."""
        return False

    def seconds_for(self, done: Sequence[str]) -> float | None:
        """The time limit of the next step, which the server holds."""
        return None

    def shown(self, done: Sequence[str]) -> dict[str, Any]:
        """What of the task a labeler may see after the steps that are done."""
        return self.to_json()


class DialogueTask(Task):
    """A person writes, two responses come, the chosen one continues the dialogue."""

    kind: Literal["dialogue"] = "dialogue"
    mode: Literal["helpful", "harmless", "redteam"] = "helpful"
    """In "redteam" the labeler attacks and picks the *more harmful* response."""
    opening: tuple[Turn, ...] = ()
    """Turns before the labeler's first; may be none."""
    theme: FreeText = ""
    """What to talk or attack about, if the study says so."""
    maximum_turns: Annotated[int, Field(ge=1, le=50)] = 4

    @property
    def candidate_counts(self) -> tuple[int, int]:
        return (2, 2)

    @property
    def live(self) -> bool:
        return True

    @property
    def labels(self) -> frozenset[str]:
        attack = {"description", "redteam"} if self.mode == "redteam" else set()
        return frozenset({"comparison"} | attack)

    def next_steps(self, done: Sequence[str]) -> frozenset[str]:
        """[description] (message comparison)+ [redteam | finish]"""
        turns = done.count("comparison")
        if "finish" in done:
            return frozenset()
        if done and done[-1] == "message":
            return frozenset({"comparison"})
        more = {"message"} if turns < self.maximum_turns else set()
        if self.mode != "redteam":
            return frozenset(more)
        if "redteam" in done:
            return frozenset()
        if "description" not in done:
            return frozenset({"description"})
        return frozenset(more | ({"redteam"} if turns else set()))

    def may_finish(self, done: Sequence[str]) -> bool:
        """A helpful dialogue may end after any comparison; an attack ends with its rating."""
        return self.mode != "redteam" and bool(done) and done[-1] == "comparison"


class RankingTask(Task):
    """K responses to one prompt: each rated and flagged, then all ranked."""

    kind: Literal["ranking"] = "ranking"
    prompt: tuple[Turn, ...] = Field(min_length=1)
    flags: tuple[Name, ...] = RANKING_FLAGS

    @property
    def candidate_counts(self) -> tuple[int, int]:
        return (2, 9)  # The paper's have 4 to 9; files of other tools often fewer.

    @property
    def labels(self) -> frozenset[str]:
        return frozenset({"ranking"})


class DemonstrationTask(Task):
    """Write a response, or a request and its response, or mend a draft."""

    kind: Literal["demonstration"] = "demonstration"
    style: Literal["given", "plain", "few_shot", "use_case"] = "given"
    """"given" has a prompt; in the others the labeler writes it: any task, an instruction with
    examples, or a request that fits the use case."""
    prompt: tuple[Turn, ...] = ()
    use_case: FreeText = ""
    draft: FreeText = ""
    """Where there is one, the labeler edits it."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.style == "given") != bool(self.prompt):
            raise ValueError("a demonstration has a prompt if, and only if, its style is 'given'")
        if (self.style == "use_case") != bool(self.use_case):
            raise ValueError("a use case belongs to style 'use_case', and to no other")
        if self.draft and not self.prompt:
            raise ValueError("a draft answers a prompt: give one")
        return self

    @property
    def labels(self) -> frozenset[str]:
        return frozenset({"edit" if self.draft else "demonstration"})


class SummaryTask(Task):
    """Two summaries, read before the post they summarise; or one, to be rated beside its post.

    As in 2009.01325 (appendix C), ratings on axes are a task of their own: who has just chosen
    between two summaries would rate them by that choice.
    """

    kind: Literal["summary"] = "summary"
    post: WrittenText
    title: FreeText = ""
    community: FreeText = ""
    """The subreddit, where there is one."""
    asks: Literal["comparison", "axes"] = "comparison"
    axes: tuple[Name, ...] = SUMMARY_AXES
    """What a summary is rated on, where that is asked. (Comparisons had ratings once.)"""

    @model_validator(mode="after")
    def _has_axes(self) -> Self:
        if self.asks == "axes" and not self.axes:
            raise ValueError("a summary is to be rated on axes, and none is named")
        return self

    @property
    def candidate_counts(self) -> tuple[int, int]:
        return (1, 1) if self.asks == "axes" else (2, 2)

    @property
    def labels(self) -> frozenset[str]:
        return frozenset({"axes"} if self.asks == "axes" else {"notes", "summary"})

    def next_steps(self, done: Sequence[str]) -> frozenset[str]:
        """notes summary | axes"""
        if self.asks == "axes":
            return frozenset() if "axes" in done else frozenset({"axes"})
        if "summary" in done:
            return frozenset()
        return frozenset({"summary"} if "notes" in done else {"notes"})

    def shown(self, done: Sequence[str]) -> dict[str, Any]:
        """Of a comparison, the post and its title only once the notes are in."""
        early = self.asks == "comparison" and "notes" not in done
        hidden = {"post", "title", "community"} if early else set()
        return {name: value for name, value in self.to_json().items() if name not in hidden}


class VoteTask(Task):
    """Which of two is better, or neither: for win rates and Elo, not for training."""

    kind: Literal["vote"] = "vote"
    prompt: tuple[Turn, ...] = Field(min_length=1)

    @property
    def candidate_counts(self) -> tuple[int, int]:
        return (2, 2)

    @property
    def labels(self) -> frozenset[str]:
        return frozenset({"vote"})


class ReviewTask(Task):
    """A second opinion on a red-team transcript."""

    kind: Literal["review"] = "review"
    transcript: tuple[Turn, ...] = Field(min_length=2)
    description: FreeText = ""
    """What the attacker set out to do."""
    rating: Annotated[int, Field(strict=True, ge=0, le=4)] | None = None
    """The attacker's own, if the reviewer is to say whether they agree with it."""
    tags: tuple[Name, ...] = HARM_TAGS
    maximum_tags: Annotated[int, Field(ge=0)] = 2

    @property
    def labels(self) -> frozenset[str]:
        return frozenset({"review"})


class AuditTask(Task):
    """Whether a model-written question tests what it should, and which answer matches."""

    kind: Literal["audit"] = "audit"
    behaviour: WrittenText
    question: WrittenText
    answers: tuple[FreeText, FreeText]

    @property
    def labels(self) -> frozenset[str]:
        return frozenset({"audit"})


class QuestionTask(Task):
    """Multiple choice: answered alone, then in dialogue with a model that is often wrong."""

    kind: Literal["question"] = "question"
    question: WrittenText
    options: tuple[WrittenText, ...] = Field(min_length=2, max_length=26)
    answer: Annotated[int, Field(ge=0)]
    """Index of the right option; shown only afterwards."""
    passage: FreeText = ""
    phases: tuple[Literal["alone", "assisted"], ...] = ("alone", "assisted")
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """For each phase; held by the server."""
    maximum_turns: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Messages to the assistant. None is no limit, as in the paper, whose participants wrote 10.9
    (MMLU) and 6.3 (QuALITY) on average."""
    reveals: Flag = True
    """Whether the right answer is shown at the end."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.answer >= len(self.options):
            raise ValueError(f"answer {self.answer} is none of {len(self.options)} options")
        if self.phases not in (("alone",), ("assisted",), ("alone", "assisted")):
            raise ValueError("phases are 'alone', 'assisted', or both in this order")
        return self

    @property
    def live(self) -> bool:
        return "assisted" in self.phases

    @property
    def labels(self) -> frozenset[str]:
        return frozenset({"qa_answer"})

    def phase(self, done: Sequence[str]) -> str | None:
        """The phase that comes next, or None when all are done."""
        answered = done.count("qa_answer")
        return self.phases[answered] if answered < len(self.phases) else None

    def next_steps(self, done: Sequence[str]) -> frozenset[str]:
        """An answer in each phase; turns and resets only in the assisted one."""
        phase = self.phase(done)
        if phase is None:
            return frozenset()
        if phase == "alone":
            return frozenset({"qa_answer"})
        more = self.maximum_turns is None or done.count("message") < self.maximum_turns
        return frozenset({"qa_answer", "reset"} | ({"message"} if more else set()))

    def seconds_for(self, done: Sequence[str]) -> float | None:
        return self.seconds if self.phase(done) is not None else None

    def shown(self, done: Sequence[str]) -> dict[str, Any]:
        """Without the right answer until all is done."""
        known = self.phase(done) is None and self.reveals
        return {name: value for name, value in self.to_json().items() if known or name != "answer"}


AnyTask = Annotated[
    DialogueTask
    | RankingTask
    | DemonstrationTask
    | SummaryTask
    | VoteTask
    | ReviewTask
    | AuditTask
    | QuestionTask,
    Field(discriminator="kind"),
]
TASK: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
TaskKind = Literal[
    "dialogue", "ranking", "demonstration", "summary", "vote", "review", "audit", "question"
]
