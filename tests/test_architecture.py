"""The boundaries of docs/architecture.md and the size budgets, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "hark"

ROOT_MODULES = {"errors", "settings"}
"""Importable by everyone: docs/decisions/0001-root-modules.md."""

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "settings": set(),
    "runs": set(),
    "data": set(),
    "playground": {"data"},
    "models": {"data"},
    "training": {"data", "models", "runs"},
    "evaluation": {"data", "models", "runs"},
    "feedback": {"data", "models", "runs"},
    "serving": {"data", "models", "runs"},
    "report": {"evaluation", "runs", "data"},
    "web": {"data", "runs", "feedback", "evaluation", "report", "serving"},
    "loop": {
        "runs", "data", "playground", "models", "training", "evaluation", "feedback", "serving",
        "report", "web",
    },
    "__main__": {"cli"},
    "cli": {
        "runs", "data", "playground", "models", "training", "evaluation", "feedback", "serving",
        "report", "web", "loop",
    },
}  # fmt: skip

NO_NOUNS = {"utils", "util", "common", "core", "helpers", "helper", "misc"}

WITHOUT_TORCH = [
    "hark.runs", "hark.data", "hark.playground", "hark.feedback", "hark.web", "hark.settings",
    "hark.errors", "hark.evaluation.bradley_terry", "hark.evaluation.elo",
    "hark.evaluation.intervals", "hark.evaluation.matchups", "hark.evaluation.rehearsal",
    "hark.evaluation.residuals", "hark.evaluation.score_elo", "hark.evaluation.winrate",
    "hark.cli.feedback", "hark.cli.simulate", "hark.loop.simulation",
]  # fmt: skip
RUN_BY_ALEMBIC = "hark.feedback.migrations.env"
"""Needs the context of a migration that is under way."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_units(path: Path) -> Iterator[tuple[int, str]]:
    """Line and unit of every import of ours, wherever it stands in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "hark":
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif node.module and node.module.startswith("hark."):
                yield node.lineno, node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("hark."):
                    yield node.lineno, alias.name.split(".")[1]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length in lines of every function, decorators included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            assert node.end_lineno is not None
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - first + 1


def ninetieth(lengths: list[int]) -> int:
    """The length that nine tenths do not exceed."""
    return sorted(lengths)[max(0, -(-9 * len(lengths) // 10) - 1)]


def test_every_unit_is_in_the_table() -> None:
    units = {unit_of(path) for path in modules()} - {"__init__"}
    assert units <= set(MAY_IMPORT), f"say what {units - set(MAY_IMPORT)} may import"


@pytest.mark.parametrize("unit", sorted(MAY_IMPORT))
def test_units_import_only_what_the_table_allows(unit: str) -> None:
    allowed = MAY_IMPORT[unit] | ROOT_MODULES | {unit, "__version__"}
    if unit in ROOT_MODULES:
        allowed = {"errors", "__version__"} - {unit}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for path in modules()
        if unit_of(path) == unit
        for line, imported in imported_units(path)
        if imported not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_the_table_reads_imports_inside_functions(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("def f():\n    from hark.cli import main\n    import hark.loop.stages\n")
    assert list(imported_units(source)) == [(2, "cli"), (3, "loop")]


def test_functions_fit_their_budget() -> None:
    lengths = dict(item for path in modules() for item in functions(path))
    longest = {name: length for name, length in lengths.items() if length > 100}
    assert not longest, f"longer than 100 lines: {longest}"
    assert ninetieth(list(lengths.values())) <= 40


def test_files_fit_their_budget() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in modules()
    }
    longest = {name: length for name, length in lengths.items() if length > 500}
    assert not longest, f"longer than 500 lines: {longest}"
    assert ninetieth(list(lengths.values())) <= 350


def test_ninetieth_is_the_length_of_the_ninth_of_ten() -> None:
    assert ninetieth([1] * 9 + [1000]) == 1
    assert ninetieth([1] * 8 + [1000] * 2) == 1000


def test_every_module_is_a_noun() -> None:
    wrong = [path for path in PACKAGE.rglob("*") if path.stem in NO_NOUNS]
    assert not wrong, f"a function belongs to a noun: {wrong}"


def test_light_units_and_the_command_line_do_not_load_torch() -> None:
    names = [
        "hark." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in modules()
        if path.name != "__init__.py"
    ]
    light = [name for name in names if any(name.startswith(unit) for unit in WITHOUT_TORCH)]
    light.remove(RUN_BY_ALEMBIC)
    light += ["hark.cli.main", "hark.cli.outcome", "hark.cli.options"]
    code = (
        f"import importlib, sys\nfor name in {light!r}:\n    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name + ' loads torch'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
