"""Templates to HTML: everything escaped, except Markdown, which is rendered without its HTML."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from hark import __version__

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"


@cache
def environment() -> Environment:
    """Jinja's, with our filters. A name that a template misspells is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["markdown"] = markdown
    made.globals["version"] = __version__
    return made


def render(template: str, **values: Any) -> str:
    """The page; `caller` is None unless given."""
    return environment().get_template(template).render({"caller": None, **values})


def markdown(text: str) -> Markup:
    """Instructions, warnings and support texts; HTML in them is shown as it is written."""
    return Markup(_markdown().render(text))


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
