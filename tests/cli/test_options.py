"""Every field of a settings class becomes an option, and only what was given is passed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from cyclopts import App, CycloptsError, Parameter

from hark.cli.options import (
    given_and_default_lines,
    nested_settings,
    options_of,
    read_config,
    unflatten,
)
from hark.cli.stage import stage_command
from hark.errors import DataError, SettingsError
from hark.loop.stages import Stage, StageOutcome
from hark.runs.settings import StageSettings
from hark.settings import Settings, sources_of


class Optimizer(Settings):
    """Adam."""

    learning_rate: float = 1e-3
    """The highest learning rate."""
    schedule: Literal["linear", "cosine"] = "cosine"
    """How it falls."""


class Adaptive(Settings):
    """The controller."""

    target: float = 6.0
    """Nats."""


class Kiln(StageSettings):
    """Fire pots."""

    pots: tuple[Path, ...]
    """Files of pots."""
    heat: float | None = 900.0
    """Degrees; none leaves them cold."""
    glaze: bool = True
    """Whether they shine."""
    colour: Literal["red", "blue"] | None = None
    """The colour."""
    weights: dict[str, float] = {}  # noqa: RUF012 (pydantic copies defaults)
    """Weight of each pot."""
    steps: tuple[Optimizer, ...] = ()
    """Several of them."""
    optimizer: Optimizer = Optimizer()
    """How weights move."""
    adaptive: Adaptive | None = None
    """Adapts."""


def existing(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"no such file: '{path}'")
    return path


@pytest.fixture
def fired(monkeypatch: pytest.MonkeyPatch) -> list[Kiln]:
    """The settings of every run of the stage `kiln`."""
    ran: list[Kiln] = []

    def run_stage(name: str, settings: Kiln, *, command: list[str]) -> StageOutcome:
        assert name == "kiln"
        ran.append(settings)
        return StageOutcome(run_path=Path("runs/x"), results={"cracks": 2}, reused=False)

    stage = Stage(
        name="kiln",
        summary="Fire pots.",
        settings=Kiln,
        function=lambda settings, run: {},
        inputs=lambda settings: [existing(pot) for pot in settings.pots],
        code=(),
    )
    monkeypatch.setattr("hark.cli.stage.STAGES", {"kiln": stage})
    monkeypatch.setattr("hark.cli.stage.run_stage", run_stage)
    return ran


def kiln(*tokens: str) -> None:
    app = App(name="hark", result_action="return_value", help_format="plaintext")
    app.command(stage_command("kiln", title="Kiln"), name="kiln")
    app(["kiln", *tokens], exit_on_error=False, print_error=False)


def test_every_field_is_an_option_with_its_docstring_and_default(
    fired: list[Kiln], capsys: pytest.CaptureFixture[str]
) -> None:
    kiln("--help")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option in options_of(Kiln, title="Kiln"):
        assert option.flag in shown
        assert " ".join((option.field.description or "").split()) in shown
    assert "Files of pots. [required]" in shown
    assert "The highest learning rate. [default: 0.001]" in shown
    assert "How it falls. [choices: linear, cosine] [default: cosine]" in shown
    assert "--glaze --no-glaze Whether they shine. [default: yes]" in shown


def test_values_of_every_kind_reach_the_settings(fired: list[Kiln]) -> None:
    kiln(
        *("--pots", "a", "b", "--pots", "c", "--heat", "-1.5", "--no-glaze", "--colour", "red"),
        *("--weights.a", "0.5", "--weights.b", "2", "--steps", "[{learning_rate: 3}]"),
        *("--optimizer.schedule", "linear", "--adaptive.target", "2", "--seed", "3"),
    )
    assert fired[0] == Kiln(
        pots=(Path("a"), Path("b"), Path("c")),
        heat=-1.5,
        glaze=False,
        colour="red",
        weights={"a": 0.5, "b": 2.0},
        steps=(Optimizer(learning_rate=3),),
        optimizer=Optimizer(schedule="linear"),
        adaptive=Adaptive(target=2),
        seed=3,
    )


def test_none_is_a_value(fired: list[Kiln]) -> None:
    kiln("--pots", "a", "--heat", "none")
    assert fired[0].heat is None


def test_only_what_was_given_is_passed_on(fired: list[Kiln]) -> None:
    kiln("--pots", "a", "--optimizer.schedule", "cosine")
    assert fired[0].model_fields_set == {"pots", "optimizer"}
    assert fired[0].optimizer.model_fields_set == {"schedule"}


def test_options_win_over_the_file_which_wins_over_defaults(
    fired: list[Kiln], tmp_path: Path
) -> None:
    config = tmp_path / "kiln.yaml"
    config.write_text("pots: [a]\nheat: 1\noptimizer: {learning_rate: 5, schedule: linear}\n")
    kiln("--config", str(config), "--heat", "2", "--optimizer.learning-rate", "6")
    assert fired[0].pots == (Path("a"),)
    assert fired[0].heat == 2
    assert fired[0].optimizer == Optimizer(learning_rate=6, schedule="linear")


def test_the_config_of_a_run_repeats_what_was_given(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"effective": {"pots": ["a"], "heat": 900.0}, "given": {"pots": ["a"]}}')
    assert read_config(path) == {"pots": ["a"]}


@pytest.mark.parametrize(
    ("tokens", "error", "said"),
    [
        (["--pots", "a", "--glzae"], CycloptsError, "--glaze"),
        (["--pots", "a", "--colour", "green"], CycloptsError, "red"),
        (["--pots", "a", "--heat", "hot"], CycloptsError, "hot"),
        (["--heat", "1"], SettingsError, "'pots' is required"),
        (["--pots", "a", "--steps", "[{learning_rat: 3}]"], SettingsError, "did you mean"),
        (["--pots", "a", "--steps", "[{"], CycloptsError, "not valid YAML"),
        (["--config", "nowhere.yaml"], SettingsError, "nowhere.yaml"),
    ],
)
def test_wrong_options_are_refused(
    fired: list[Kiln], tokens: list[str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        kiln(*tokens)
    assert fired == []


def test_a_dry_run_is_a_config_file_of_what_was_given(
    fired: list[Kiln], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pots = tmp_path / "pots"
    pots.touch()
    kiln("--pots", str(pots), "--optimizer.schedule", "linear", "--dry-run")
    shown = capsys.readouterr().out
    assert yaml.safe_load(shown) == {"pots": [str(pots)], "optimizer": {"schedule": "linear"}}
    assert "# heat: 900.0" in shown
    assert "#   learning_rate: 0.001" in shown
    assert "  schedule: linear  # command line" in shown
    assert f"read   {pots}\n" in shown
    assert fired == []


def test_a_dry_run_says_which_input_is_missing(
    fired: list[Kiln], capsys: pytest.CaptureFixture[str]
) -> None:
    kiln("--pots", "gone", "--dry-run")
    assert "read   (error: no such file: 'gone')" in capsys.readouterr().out


def test_a_dry_run_names_the_file_a_value_came_from() -> None:
    values = {"pots": ["a"], "optimizer": {"schedule": "linear"}}
    settings = Kiln.parse(values)
    lines = list(given_and_default_lines(settings, sources=sources_of(values, "kiln.yaml")))
    assert "pots: [a]  # kiln.yaml" in lines
    assert "  schedule: linear  # kiln.yaml" in lines
    assert "# adaptive: null" in lines


def test_unflatten_makes_nested_mappings() -> None:
    assert unflatten({"a__b": 1, "a__c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}


@pytest.mark.parametrize(
    ("annotation", "found"),
    [(Optimizer, Optimizer), (Optimizer | None, Optimizer), (int, None), (int | None, None)],
)
def test_nested_settings_are_found_behind_none(annotation: Any, found: Any) -> None:
    assert nested_settings(annotation) is found


def test_options_are_parameters_of_cyclopts() -> None:
    flags = [option.flag for option in options_of(Kiln, title="Kiln")]
    assert flags[0] == "--pots"
    assert "--optimizer.learning-rate" in flags
    assert len(flags) == len(set(flags))
    assert all(
        isinstance(option.annotation.__metadata__[0], Parameter)
        for option in options_of(Kiln, title="Kiln")
    )
