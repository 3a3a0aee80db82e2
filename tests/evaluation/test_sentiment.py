from __future__ import annotations

from hark.data.records import answered, ask
from hark.evaluation.sentiment import positive_sentiment


def test_the_response_is_scored_and_not_the_prompt() -> None:
    prompt = ask("This is a terrible, horrible, hateful day.")
    good, bad = positive_sentiment(
        [answered(prompt, "What a wonderful film!"), answered(prompt, "What an awful film.")]
    ).tolist()
    assert good > 0.3
    assert bad < -0.3
