"""The two sides of a benchmark, started alike, and a line on what they share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.contender import Contender
from benchmarks.environments import peer_python
from benchmarks.inputs import Inputs
from benchmarks.machine import Machine
from benchmarks.options import pages, set_up

PEERS = Path(__file__).parent / "peers"


def work_directory(asked: argparse.Namespace, workload: str) -> Path:
    """Where a workload keeps its files; this process computes with as many threads as the sides."""
    set_up(asked)
    directory: Path = (asked.work / workload).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def hark(workload: str, settings: Mapping[str, Any], asked: argparse.Namespace) -> Contender:
    """`benchmarks/ours/<workload>.py`, with the Python that runs this."""
    command = [sys.executable, "-m", f"benchmarks.ours.{workload}"]
    return _start("hark", command, settings, asked)


def peer(
    script: str,
    requirements: tuple[str, ...],
    settings: Mapping[str, Any],
    asked: argparse.Namespace,
) -> Contender:
    """`benchmarks/peers/<script>.py`, in the environment of `requirements`; hark's without any."""
    python = peer_python(*requirements) if requirements else sys.executable
    return _start(script, [python, PEERS / f"{script}.py"], settings, asked)


def circumstances(inputs: Inputs, asked: argparse.Namespace, data: str) -> list[str]:
    """Where, with what and on what was measured."""
    config = inputs.model.config.get_text_config()
    parameters = sum(weight.numel() for weight in inputs.model.parameters()) / 1e6
    trained = "random weights" if asked.model is None else "the weights given"
    source = ", ".join(Path(file).name for file in inputs.files) or "the playground"
    return [
        f"{Machine.here()}; {asked.threads} threads, huge pages {pages(asked)}; "
        f"torch {torch.__version__}",
        f"{parameters:.1f} M parameters ({config.model_type}, {config.num_hidden_layers} layers, "
        f"width {config.hidden_size}, vocabulary {config.vocab_size}), {trained}",
        f"{data}, of {source}",
    ]


def _start(
    name: str, command: list[str | Path], settings: Mapping[str, Any], asked: argparse.Namespace
) -> Contender:
    return Contender(name, command, settings, threads=asked.threads, huge_pages=asked.huge_pages)
