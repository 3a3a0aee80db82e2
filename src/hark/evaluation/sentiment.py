"""Positive sentiment of a response, the mock reward of Ziegler et al. (1909.08593).

Departures: 1. the score is VADER's compound polarity (a lexicon with rules, through its maintained
library) instead of a classifier trained on reviews, so that nothing must be trained or fetched; a
trained classifier directory can be named as the scorer instead.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from hark.data.records import Dialogue
from hark.errors import SettingsError

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


def positive_sentiment(dialogues: list[Dialogue]) -> torch.Tensor:
    """VADER's compound polarity of the last message, −1 (negative) to 1 (positive), [n].

    Raises: SettingsError if the library is not installed.
    """
    analyzer = _analyzer()
    scores = [analyzer.polarity_scores(dialogue[-1].content)["compound"] for dialogue in dialogues]
    return torch.tensor(scores, dtype=torch.float32)


@functools.cache
def _analyzer() -> SentimentIntensityAnalyzer:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        raise SettingsError(
            "the sentiment scorer needs VADER: pip install 'hark[sentiment]'"
        ) from None
    return SentimentIntensityAnalyzer()
