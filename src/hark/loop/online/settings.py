"""The settings of a loop: what is trained, what is collected, where, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from hark.data.files import expand_paths
from hark.data.mixing import parse_weighted_path
from hark.errors import HarkError, SettingsError
from hark.feedback.records import Sampling
from hark.loop.references import merge
from hark.runs.run import resolve_model
from hark.runs.settings import Dtype
from hark.settings import Paths, Settings

if TYPE_CHECKING:
    from hark.feedback.studies import StudySettings

MODEL_FILES = ("config.json", "adapter_config.json")
"""A directory with one of them is a model or an adapter."""
PATH_FIELDS = {
    "model", "value_model", "data", "prompts", "evaluation_data", "evaluation_text",
    "pretraining_data", "normalise_data",
}  # fmt: skip
"""Settings that name files, or models that may be files."""
DEFAULT_TITLES = {
    "dialogue": "Which reply helps more?",
    "vote": "Which reply is better?",
    "ranking": "Put the replies in order",
}
DEFAULT_INSTRUCTIONS = {
    "dialogue": "Ask for something you would like to know or have written. Two replies come. "
    "Choose the more **helpful and honest** one and say how much better it is.",
    "vote": "Read the request and both replies. Which is better? Say so if neither is.",
    "ranking": "Read the request and all replies. Rate each, then put them in order, best first.",
}


class TrancheOptions(Settings):
    """How much a tranche counts where it is merged with others."""

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Multiplies the loss of each of its comparisons."""
    maximum: int | None = Field(default=None, ge=1)
    """Train on only so many of them."""


class StaticSettings(TrancheOptions):
    """Comparisons known before the loop begins (the paper's base tranche)."""

    data: Paths
    """Files of judged comparisons."""


class QuotaSettings(Settings):
    """Until when a study collects."""

    items: int = Field(default=500, ge=1)
    """Prompts or dialogues that are put into it."""
    labels: int | None = Field(default=None, ge=1)
    """Close it after so many labels."""
    days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Close it so long after it was opened, whichever comes first; 7 is weekly."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.labels is None and self.days is None:
            raise ValueError("say until when: labels (a quota) or days, or both")
        return self


class CollectSettings(QuotaSettings):
    """The study of each round: previous and new snapshots side by side."""

    task: Literal["dialogue", "vote", "ranking"] = "dialogue"
    """dialogue: people write, two snapshots answer live (2204.05862). vote, ranking: responses to
    prompts of yours, sampled before the study opens."""
    prompts: Paths = ()
    """Files of prompts, for votes and rankings; each round takes the next ones."""
    snapshots: int = Field(default=2, ge=2)
    """How many of the newest answer; the paper deployed several."""
    responses: int = Field(default=2, ge=2, le=9)
    """Of an item of a ranking."""
    maximum_turns: int = Field(default=4, ge=1, le=50)
    """Of a dialogue; the paper's had about four comparisons."""
    sampling: Sampling = Sampling()
    """How snapshots answer."""
    max_response_tokens: int = Field(default=128, ge=1)
    """A longer response is cut off and drawn again; 128 in the paper."""
    minimum_strength: int = Field(default=2, ge=0, le=4)
    """Graded choices below it are not trained on; the paper kept those above the weakest grade."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Multiplies the loss of each comparison of an online tranche."""
    maximum: int | None = Field(default=None, ge=1)
    """Train on only so many comparisons of each online tranche."""
    study: dict[str, Any] = Field(default_factory=dict)
    """Further settings of the study: title, instructions, overlap, pay_per_hour, …"""

    @model_validator(mode="after")
    def _fits_task(self) -> Self:
        if self.task == "dialogue" and self.prompts:
            raise ValueError("prompts would be ignored: in dialogues people write them")
        if self.task != "dialogue" and not self.prompts:
            raise ValueError(f"a {self.task} needs prompts: name files of them")
        if self.task != "dialogue" and "maximum_turns" in self.model_fields_set:
            raise ValueError("maximum_turns would be ignored: it is for dialogues")
        if self.task != "ranking" and self.responses != 2:
            raise ValueError(f"responses would be ignored: a {self.task} is between 2")
        if self.sampling.best_of > 1 or self.sampling.seed is not None:
            raise ValueError("best_of and seed are not for the online study: see rejection, seed")
        return self


class RejectionSettings(QuotaSettings):
    """Comparisons of best-of-k responses of the policy that rounds start from: the paper's
    rejection-sampling tranche."""

    best_of: int = Field(default=16, ge=2)
    """k; mostly 16 in the paper."""
    rounds: int = Field(default=1, ge=1)
    """In so many of the first rounds."""
    prompts: Paths = ()
    """Files of prompts; by default those of the online study, or of the policy."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Multiplies the loss of each of its comparisons."""
    maximum: int | None = Field(default=None, ge=1)
    """Train on only so many comparisons of each of these tranches."""


class MeasureSettings(Settings):
    """How new policies are compared with previous ones before people have."""

    data: Paths
    """Files of held-out prompts."""
    limit: int | None = Field(default=None, ge=1)
    """Take only so many prompts."""
    replies: int = Field(default=1, ge=1)
    """How often each policy answers each prompt: policies of two rounds are often nearer to each
    other than two replies of one."""
    judge: str = "playground"
    """Who says which reply is better: playground (its gold grade), or a scorer that no policy is
    trained against."""

    @model_validator(mode="after")
    def _limit_fits(self) -> Self:
        if self.limit is not None and self.replies > 1:
            raise ValueError("limit would be ignored: with several replies all prompts are taken")
        return self


class ServerSettings(Settings):
    """The feedback application."""

    url: str | None = None
    """Address of a server that runs already; its owner's API token is read from HARK_TOKEN. Without
    it the loop serves for as long as a command of its own runs."""
    host: str = "127.0.0.1"
    """Where a server of the loop's own listens."""
    port: int = Field(default=0, ge=0)
    """The same; 0 finds a free one, which is then kept."""
    models_port: int = Field(default=0, ge=0)
    """Where the snapshots of live dialogues answer; 0 finds a free one, which is then kept."""

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        if self.url is not None and {"host", "port"} & self.model_fields_set:
            raise ValueError("host and port would be ignored: the server is at 'url'")
        return self


class LoopParts(Settings):
    """Everything of a loop but its name, seed and device."""

    preference: dict[str, Any]
    """Settings of the stage `preference`; `model` is the pretrained preference checkpoint, from
    which every round restarts."""
    policy: dict[str, Any]
    """Settings of the stage `ppo`; `model` is the distilled or supervised policy, from which every
    round restarts."""
    static: StaticSettings
    """Comparisons known beforehand."""
    collect: CollectSettings
    """The study of each round."""
    rejection: RejectionSettings | None = None
    """Best-of-k comparisons; none by default."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the requests whose comparisons no preference model is trained on."""
    measure: MeasureSettings
    """How new policies are compared with previous ones."""
    server: ServerSettings = ServerSettings()
    """The feedback application."""

    @model_validator(mode="after")
    def _fragments_fit(self) -> Self:
        for name, filled in (
            ("preference", {"data"}),
            ("policy", {"preference_model"}),
        ):
            fragment = getattr(self, name)
            if "model" not in fragment:
                raise ValueError(f"{name}.model is missing: what every round restarts from")
            for field in sorted({*filled, "name", "output", "seed", "device"} & set(fragment)):
                raise ValueError(f"{name}.{field} would be ignored: the loop fills it in")
        return self

    @property
    def start(self) -> str:
        """The policy that every round restarts from."""
        return str(self.policy["model"])

    @property
    def rejection_prompts(self) -> Paths:
        """Prompts that best-of-k responses answer."""
        given = self.rejection.prompts if self.rejection else ()
        return given or self.collect.prompts or tuple(map(Path, _listed(self.policy["data"])))


class LoopSettings(LoopParts):
    """A loop."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")] = "loop"
    """Begins the names of its studies and snapshots: small letters, digits, hyphens."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of everything random in training, sampling and merging."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:1."""
    dtype: Dtype = "float32"
    """Precision of the arithmetic; weights being trained stay in float32."""

    def study(
        self, name: str, *, round: int, task: str, live: tuple[str, ...] = ()
    ) -> StudySettings:
        """The settings of a round's study. Raises: SettingsError.

        task: of its items. live: names of the snapshots that answer while people work.
        """
        # Imported here: whoever trains should not wait for a database's library.
        from hark.feedback.studies import StudySettings

        drawn = {
            "snapshots": list(live),
            "sampling": self.collect.sampling.to_json(),
            "max_response_tokens": self.collect.max_response_tokens,
        }
        values: dict[str, Any] = {
            "title": DEFAULT_TITLES[task],
            "instructions": DEFAULT_INSTRUCTIONS[task],
            **(drawn if live else {}),
        }
        fixed = {"name": name, "task": task, "round": round}
        for field in sorted((set(fixed) | set(drawn)) & set(self.collect.study)):
            raise SettingsError(f"collect.study.{field} would be ignored: the loop fills it in")
        return StudySettings.parse(merge(values, self.collect.study) | fixed, where="collect.study")


def check_files(settings: LoopSettings) -> None:
    """Raises: SettingsError for a file or model that is not there, before weeks are spent."""
    files = {
        "static.data": settings.static.data,
        "collect.prompts": settings.collect.prompts,
        "rejection.prompts": settings.rejection_prompts if settings.rejection else (),
        "measure.data": settings.measure.data,
        "policy.data": tuple(map(Path, _listed(settings.policy.get("data", ())))),
    }
    for name, paths in files.items():
        for path in paths:
            try:
                expand_paths(str(path))
            except HarkError as error:
                raise SettingsError(f"{name}: {error}") from None
    for name, model in (("preference", settings.preference["model"]), ("policy", settings.start)):
        given = Path(model)
        if not given.exists():
            if str(model).startswith((".", "/")) or "runs/" in str(model):
                raise SettingsError(f"{name}.model: there is nothing at '{model}'")
        elif not any((resolve_model(given) / file).is_file() for file in MODEL_FILES):
            raise SettingsError(
                f"{name}.model: '{model}' has no config.json, so it is not a model directory; give "
                "one, or a run that trained a model"
            )


def with_whole_paths(settings: LoopSettings) -> LoopSettings:
    """The same settings with the paths of files and models from the root, so that a loop may be
    gone on with from anywhere."""
    return LoopSettings.parse(_with_whole_paths(settings.given()))


def _with_whole_paths(value: Any, field: str = "") -> Any:
    if isinstance(value, Mapping):
        return {key: _with_whole_paths(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_paths(item, field) for item in value]
    if not isinstance(value, str) or field not in PATH_FIELDS:
        return value
    path = Path(parse_weighted_path(value).path)
    is_ours = path.exists() or any(sign in value for sign in "*?[")
    return str(Path.cwd() / value) if is_ours and not path.is_absolute() else value


def _listed(value: Any) -> list[str]:
    return [str(value)] if isinstance(value, str | Path) else [str(one) for one in value]
