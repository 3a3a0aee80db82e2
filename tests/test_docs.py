"""The documentation names everything there is, and nothing that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from hark.cli.main import COMMANDS, WITH_COMMANDS, build_app
from hark.cli.options import nested_settings
from hark.loop.stages import STAGES
from hark.settings import Settings

ROOT = Path(__file__).parents[1]
SOURCES = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "src" / "hark").rglob("*.py"))
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMAND_LINE = re.compile(r"(?:^ {2,}|`|\$ |^)(hark [a-z][^`\n]*)", re.MULTILINE)


def settings_classes() -> Iterator[type[Settings]]:
    """The settings of every stage, and every class nested in them."""
    left: list[type[Settings]] = [stage.settings for stage in STAGES.values()]
    seen: set[type[Settings]] = set()
    while left:
        current = left.pop()
        if current not in seen:
            seen.add(current)
            yield current
            for field in current.model_fields.values():
                inner = nested_settings(field.annotation)
                left += [inner] if inner else []


def option_names(command: str) -> set[str]:
    """The options of a command, such as "sft" or "data convert"."""
    app: App = build_app()
    for word in command.split():
        app = app[word]
    return {name for argument in app.assemble_argument_collection() for name in argument.names}


def commands_on(page: Path) -> list[str]:
    """Command lines as a reader would copy them, continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [found.strip() for found in COMMAND_LINE.findall(text)]


def test_every_command_is_shown_somewhere() -> None:
    shown = {line.split()[1] for page in PAGES for line in commands_on(page)}
    assert shown >= set(COMMANDS), f"no page shows: {set(COMMANDS) - shown}"


def test_every_stage_is_a_command() -> None:
    # `hark data prepare`; and `hark loop`, of which the stage is the form for recipes.
    assert set(STAGES) - {"prepare", "online"} <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_a_page_exist_with_their_options(page: Path) -> None:
    for line in commands_on(page):
        words = line.split()
        if words[1] not in COMMANDS:
            continue
        command = " ".join(words[1:3]) if words[1] in WITH_COMMANDS else words[1]
        if command in WITH_COMMANDS or len(words) < 3:
            continue
        unknown = {word.split("=")[0] for word in words if word.startswith("--")} - {"--help"}
        unknown -= option_names(command)
        assert not unknown, f"{page.name}: `{line}` has no {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("settings", sorted(settings_classes(), key=lambda one: one.__name__))
def test_every_setting_says_what_it_is(settings: type[Settings]) -> None:
    assert settings.__doc__
    silent = [name for name, field in settings.model_fields.items() if not field.description]
    assert not silent, f"{settings.__name__} has fields without a docstring: {silent}"


@pytest.mark.parametrize("settings", sorted(settings_classes(), key=lambda one: one.__name__))
def test_nested_settings_default_to_their_own_class(settings: type[Settings]) -> None:
    """Otherwise giving one nested value would silently reset the others (decision 0003)."""
    for name, field in settings.model_fields.items():
        inner = nested_settings(field.annotation)
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if inner is not None and default is not None:
            assert default == inner(), f"{settings.__name__}.{name}"


def test_every_metric_on_the_page_is_in_the_code() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page, re.MULTILINE)
    defined = {name for group in names for name in re.findall(r"`(\w+)`", group)}
    assert len(defined) > 40
    known = set(re.findall(r"\w+", SOURCES))
    phases = set(re.findall(r'phase\("(\w+)"\)', SOURCES))
    # Of each phase there are seconds and a share; what no phase claims is "other".
    unknown = {
        name for name in defined if re.sub("_(seconds|share)$", "", name) not in {*phases, "other"}
    } - known
    assert not unknown, f"docs/metrics.md defines what nothing writes: {unknown}"


def test_the_glossary_defines_each_word_once() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"\*\*([^*]+)\*\*", page)
    assert len(words) == len(set(words))
    assert {"comparison", "preference model", "critic", "rollout", "fingerprint"} <= set(words)


def test_the_architecture_names_every_unit() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    units = {path.name for path in (ROOT / "src" / "hark").iterdir() if path.is_dir()}
    missing = {unit for unit in units if f"`{unit}`" not in page} - {"__pycache__"}
    assert not missing
