import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hark.data.records import Message, ask
from hark.errors import RunError
from hark.evaluation.samples import Sample, samples_of
from hark.report.figures import win_rates
from hark.report.page import Facts, Report, pick_samples, render, visible, write_report
from hark.report.run_record import RunRecord

EVIL = "<script>alert('x')</script> & \"quotes\" \x1b[31m\x00"
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """Collects tags and text, and fails on tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @classmethod
    def of(cls, html: str):
        outline = cls()
        outline.feed(html)
        outline.close()
        assert outline.open == []
        return outline

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def report(rows, make_run):
    run = RunRecord.read(make_run("20260131T140512-ppo", results={"score": 1.0}))
    prompt = (Message("user", "Hello"), Message("assistant", "Hi."), Message("user", EVIL))
    return Report(
        title="A <title>",
        summary=("PPO wins 72 % of prompts.",),
        policies=rows,
        baseline="SFT",
        figures=(win_rates(rows, baseline="SFT"),),
        facts=(Facts(title="preference", rows=(("accuracy", "71 %"),)),),
        samples=(
            Sample(prompt=prompt, policy="SFT", response=EVIL, scores={"gold": -0.5}),
            Sample(prompt=prompt, policy="PPO", response=" ", finish="end"),
            Sample(prompt=ask("Other"), policy="PPO", response="cut", finish="length"),
        ),
        notes=("The judge is the playground.",),
        next_steps=(("Use your own.", "hark sft --data <file>"),),
        runs=(run,),
    )


def test_everything_of_a_report_is_on_the_page(report):
    outline = Outline.of(render(report))
    for expected in (
        "A <title>",
        "PPO wins 72 % of prompts.",
        "PPO <b>$x_1$ is preferred to SFT",
        "Win rate vs SFT",
        "accuracy 71 %",
        "gold −0.50",
        "(an empty reply)",
        "(cut at the length limit)",
        "The judge is the playground.",
        "hark sft --data <file>",
        "hark ppo --name 'two words'",
        "83c4d2a1b2c3, with local changes",
        "seed 7",
        "1 h 01 min",
        "sha256 abcdef012345 pairs.jsonl",
    ):
        assert expected in outline.text, expected


def test_what_models_wrote_is_shown_and_never_run(report):
    html = render(report)
    outline = Outline.of(html)
    assert "script" not in outline.tags
    assert outline.text.count("<script>alert('x')</script> & \"quotes\" ␛[31m␀") == 2
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", html)


def test_the_page_asks_nobody_for_anything(report):
    html = render(report)
    addresses = set(re.findall(r"""["'(]((?:https?:)?//[^"')\s]+)""", html))
    assert {address for address in addresses if "www.w3.org" not in address} == set()
    assert not re.search(r"@import|<link|<iframe|src=", html)
    assert "default-src 'none'" in html


def test_a_number_keeps_its_per_cent_sign_on_its_line(report):
    assert "72\N{NO-BREAK SPACE}% of prompts" in render(report)


def test_parts_that_are_empty_are_left_out():
    outline = Outline.of(render(Report(title="Nothing yet")))
    assert "Nothing yet" in outline.text
    assert "section" not in outline.tags


def test_every_link_on_the_page_leads_somewhere(report):
    html = render(report)
    targets = set(re.findall(r'<a href="#([\w-]+)"', html))
    assert targets == {"policies", "figures", "results", "samples", "notes", "next", "runs"}
    assert all(f'id="{target}"' in html for target in targets)


def test_every_colour_of_a_drawing_is_defined_for_light_and_dark(report):
    html = render(report)
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    light, dark = html.split("prefers-color-scheme: dark")[:2]
    assert all(f"{name}:" in light for name in used)
    fonts = {"--serif", "--sans", "--mono"}
    assert all(f"{name}:" in dark.split("}")[0] for name in used - fonts)


def test_the_same_report_gives_the_same_bytes_whole_or_not_at_all(report, tmp_path):
    for name in ("a.html", "b.html"):
        write_report(tmp_path / "pages" / name, report)
    pages = tmp_path / "pages"
    assert (pages / "a.html").read_bytes() == (pages / "b.html").read_bytes()
    assert sorted(path.name for path in pages.iterdir()) == ["a.html", "b.html"]
    with pytest.raises(RunError, match="cannot write"):
        write_report(pages / "a.html" / "c.html", report)


def test_broken_characters_do_not_stop_the_page(tmp_path):
    write_report(tmp_path / "page.html", Report(title="half a pair: \ud83d"))
    assert "half a pair: ?" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_line_breaks_and_tabs_stay_what_they_are():
    assert visible("a\n\tb\r\x07") == "a\n\tb␍␇"


def test_picked_samples_are_spread_over_all_prompts_with_their_policies_together():
    prompts = [ask(str(number)) for number in range(10)]
    samples = samples_of("a", prompts, ["x"] * 10) + samples_of("b", prompts, ["y"] * 10)
    picked = pick_samples(samples, 3)
    assert [(each.prompt[0].content, each.policy) for each in picked] == [
        ("0", "a"), ("0", "b"), ("3", "a"), ("3", "b"), ("6", "a"), ("6", "b"),
    ]  # fmt: skip
    assert len(pick_samples(samples, 99)) == 20
    assert pick_samples([], 3) == ()


def test_the_template_is_part_of_the_package():
    import hark.report.page

    assert (Path(hark.report.page.__file__).parent / "page.html").is_file()
