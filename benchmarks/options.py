"""What every benchmark can be told."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from benchmarks.environments import ROOT

DTYPES = ("float32", "bfloat16")


def parser(
    description: str, *, settings: dict[str, dict[str, object]], tried: tuple[str, ...]
) -> argparse.ArgumentParser:
    """Options that all benchmarks share.

    settings: the peer's settings by name; `tried`: those that are tried unless others are named.
    """
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    options.add_argument("--model", help="SFT run or model directory; random weights without")
    options.add_argument("--data", nargs="+", default=[], help="files; the playground without")
    options.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    options.add_argument("--repetitions", type=int, default=5, help="of each contender, in turn")
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options.add_argument(
        "--huge-pages", action=argparse.BooleanOptionalAction, default=True,
        help="torch asks for huge pages (THP_MEM_ALLOC_ENABLE), in all contenders",
    )  # fmt: skip
    options.add_argument(
        "--settings", nargs="+", default=list(tried), choices=list(settings),
        help="the peer's settings to try; the fastest takes part",
    )  # fmt: skip
    options.add_argument("--work", type=Path, default=ROOT / "runs" / "benchmarks")
    options.add_argument("--append", type=Path, help="a Markdown page to add the results to")
    options.add_argument("--seed", type=int, default=0)
    return options


def set_up(asked: argparse.Namespace) -> None:
    """Let this process compute as the contenders do."""
    # torch reads it when it makes its first tensor.
    os.environ["THP_MEM_ALLOC_ENABLE"] = str(int(asked.huge_pages))
    torch.set_num_threads(asked.threads)


def pages(asked: argparse.Namespace) -> str:
    """What a table says of huge pages."""
    return "asked for" if asked.huge_pages else "not asked for"
