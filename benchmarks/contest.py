"""One workload: hark and a peer do the same work in turn, and the results are written down."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contender import Contender, Repetition
from benchmarks.machine import product_rate
from benchmarks.rounds import Round, Spread, alternate


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one precision gave."""

    dtype: str
    rounds: Sequence[Round]
    useful: Callable[[Repetition], int]
    """FLOPs that a repetition could not be done without."""
    product_rate: Spread
    """FLOP/s of matrix products, measured between the rounds."""
    setting: str
    """Of the peer: the fastest of those tried."""
    tried: Mapping[str, float]
    """Units a second of each of the peer's settings, in one repetition."""
    agreement: str
    """How far apart the two were on the same work."""

    @property
    def ratio(self) -> Spread:
        return Spread.of([each.ratio for each in self.rounds])

    @property
    def ours(self) -> Spread:
        """hark's rate, units a second."""
        return Spread.of([each.ours.rate for each in self.rounds])

    @property
    def theirs(self) -> Spread:
        """The peer's rate, units a second."""
        return Spread.of([each.theirs.rate for each in self.rounds])

    def useful_rates(self) -> tuple[float, float]:
        """Median useful FLOP/s of hark and of the peer."""
        ours, theirs = (
            Spread.of([self.useful(one) / one.seconds for one in repetitions]).median
            for repetitions in zip(*((each.ours, each.theirs) for each in self.rounds), strict=True)
        )
        return ours, theirs


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Who takes part, and what each is asked."""

    ours: Contender
    theirs: Contender
    settings: Mapping[str, Mapping[str, Any]]
    """The peer's settings to try, by name: what its request holds besides the precision; `only`
    names the one precision for which a setting is tried."""
    request: Callable[[Repetition], Mapping[str, Any]]
    """What hark is asked, besides the precision, after the peer's trial."""
    useful: Callable[[Repetition], int]
    check: Callable[[str, Repetition, Repetition], str]
    """Precision, hark's trial, the peer's trial: says how well they agree, or raises."""

    def run(self, dtypes: Sequence[str], repetitions: int) -> list[Result]:
        """Measure every precision. Trials also warm up, and count for nothing else."""
        return [self._measure(dtype, repetitions) for dtype in dtypes]

    def _measure(self, dtype: str, repetitions: int) -> Result:
        trials = dict(self._trials(dtype))
        if not trials:
            raise SystemExit(f"none of the settings to try is for {dtype}; name others")
        setting, trial = max(trials.items(), key=lambda item: item[1].rate)
        request = {"dtype": dtype, **self.request(trial)}
        agreement = self.check(dtype, self.ours.repeat(**request), trial)
        _say(agreement)
        product_rates = [product_rate(dtype)]

        def ours() -> Repetition:
            product_rates.append(product_rate(dtype))
            return _told("hark", self.ours.repeat(**request))

        def theirs() -> Repetition:
            asked = {"dtype": dtype, **self.settings[setting]}
            return _told(self.theirs.name, self.theirs.repeat(**asked))

        return Result(
            dtype=dtype,
            rounds=alternate(ours, theirs, repetitions=repetitions),
            useful=self.useful,
            product_rate=Spread.of(product_rates),
            setting=setting,
            tried={name: each.rate for name, each in trials.items()},
            agreement=agreement,
        )

    def _trials(self, dtype: str) -> Iterator[tuple[str, Repetition]]:
        for name, setting in self.settings.items():
            if setting.get("only", dtype) != dtype:
                continue
            trial = self.theirs.repeat(dtype=dtype, **setting)
            _told(f"{self.theirs.name}, {name}, {dtype}", trial)
            yield name, trial


def best_against_best(results: Sequence[Result]) -> Spread:
    """Ratios of hark's fastest precision to the peer's fastest, round by round."""
    ours = max(results, key=lambda result: result.ours.median)
    theirs = max(results, key=lambda result: result.theirs.median)
    pairs = zip(ours.rounds, theirs.rounds, strict=True)
    return Spread.of([one.ours.rate / other.theirs.rate for one, other in pairs])


def _told(who: str, repetition: Repetition) -> Repetition:
    _say(f"{who}: {repetition.rate:.4g}/s ({repetition.seconds:.1f} s)")
    return repetition


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
