"""Strings that end a response, looked for in the text while the tokens are drawn."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


class StopStrings:
    """Finds stop strings without decoding every row at every step.

    A string can only be completed by a token whose own text holds the string's last character, so
    only the few rows that have just drawn such a token are decoded.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: tuple[str, ...]) -> None:
        self.tokenizer = tokenizer
        self.stop = stop
        self._last_characters = {string[-1] for string in stop}
        self._may_complete: dict[int, bool] = {}

    def may_complete(self, token: int) -> bool:
        """Whether a stop string could end within this token."""
        known = self._may_complete.get(token)
        if known is None:
            text = self._decode([token])
            # Neither an incomplete character nor a space that a tokenizer drops from the
            # beginning of a text shows in the text of the token alone.
            incomplete = "\N{REPLACEMENT CHARACTER}" in text
            spaces = any(character.isspace() for character in self._last_characters)
            known = incomplete or spaces or any(last in text for last in self._last_characters)
            self._may_complete[token] = known
        return known

    def found(self, tokens: Sequence[int]) -> bool:
        """Whether the text of `tokens` contains a stop string."""
        text = self._decode(tokens)
        return any(string in text for string in self.stop)

    def text_before(self, tokens: Sequence[int]) -> str:
        """The text of `tokens` up to the first stop string, stripped."""
        text = self._decode(tokens)
        places = [place for string in self.stop if (place := text.find(string)) >= 0]
        return text[: min(places, default=len(text))].strip()

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(
            self.tokenizer.decode(
                list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
