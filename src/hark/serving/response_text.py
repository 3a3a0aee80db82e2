"""The text of a response while it is being drawn, given out only once no later token changes it."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class ResponseText:
    """Tokens in, pieces of text out; the pieces together are the response's whole text.

    Held back are: bytes of an unfinished character; what may turn out to be the beginning of a stop
    string; and, where the text is stripped, white space that may turn out to be its end.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, stop: Sequence[str], stripped: bool
    ) -> None:
        self.tokenizer, self.stop, self.stripped = tokenizer, tuple(stop), stripped
        self.tokens: list[int] = []
        self.text = ""
        """Everything decoded so far, stop strings and outer white space included."""
        self.given = 0
        """Characters of `text` given out or left out for good."""
        self._has_begun = False
        # Tokens before `_context` have no influence on the text of the ones after `_read`.
        self._context = self._read = 0

    def hold(self, token: int) -> None:
        """One more token, whose text can wait."""
        self.tokens.append(token)

    def add(self, token: int) -> str:
        """One more token; the text that it makes certain."""
        self.hold(token)
        self._decode_new(at_end=False)
        return self._give(self._certain())

    def finish(self) -> str:
        """No token follows: the rest of the text."""
        self._decode_new(at_end=True)
        end = self._stop_place()
        kept = self.text[:end]
        return self._give(len(kept.rstrip()) if self.stripped else len(kept))

    def stop_found(self) -> str | None:
        """The stop string that comes first in the text; None without any."""
        place = self._stop_place()
        return next((one for one in self.stop if self.text.startswith(one, place)), None)

    def _decode_new(self, *, at_end: bool) -> None:
        """Decode the unread tokens after a few read ones, which some decoders look back at."""
        known = self._decode(self.tokens[self._context : self._read])
        extended = self._decode(self.tokens[self._context :])
        if at_end or (len(extended) > len(known) and not extended.endswith(_INCOMPLETE)):
            self.text += extended[len(known) :]
            self._context, self._read = self._read, len(self.tokens)

    def _certain(self) -> int:
        """How many characters of `text` are sure to stay."""
        end = self._stop_place()
        if end == len(self.text):
            end -= max((_overlap(self.text, string) for string in self.stop), default=0)
        return len(self.text[:end].rstrip()) if self.stripped else end

    def _stop_place(self) -> int:
        """Where the first stop string begins; the end of the text without any."""
        places = [place for string in self.stop if (place := self.text.find(string)) >= 0]
        return min(places, default=len(self.text))

    def _give(self, end: int) -> str:
        if self.stripped and not self._has_begun:
            self.given = len(self.text) - len(self.text.lstrip())
        piece = self.text[self.given : end]
        self.given = max(self.given, end)
        self._has_begun = self._has_begun or piece != ""
        return piece

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(
            self.tokenizer.decode(
                list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


def _overlap(text: str, string: str) -> int:
    """Length of the longest end of `text` that is a beginning of `string`, but not all of it."""
    longest = min(len(text), len(string) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(string[:size])), 0)
