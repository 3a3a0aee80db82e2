"""What is left to chance, as functions of a key that only the server has.

In what order responses are shown, which snapshots answer and whether an item has a known answer
must stay as they are at every reload, and labelers must not be able to work them out. A function of
identifiers alone would do the first; with the source at hand, it would undo the blinding.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from hark.feedback import secret_keys
from hark.feedback.store import Store


@dataclass(frozen=True, slots=True)
class Chance:
    """Draws that are functions of the key and of what they are for."""

    key: str

    def uniform(self, *names: object) -> float:
        """A number in [0, 1)."""
        return int.from_bytes(self._digest(names)[:6]) / 2**48

    def generator(self, *names: object) -> random.Random:
        """For more than one draw."""
        return random.Random(self._digest(names))

    def _digest(self, names: tuple[object, ...]) -> bytes:
        text = "\n".join(map(str, names))
        return hmac.digest(self.key.encode(), text.encode(), hashlib.sha256)


def chance_of(store: Store) -> Chance:
    """The store's; all servers on it draw the same."""
    return Chance(secret_keys.find(store, "chance"))


def display_order(chance: Chance, assignment: Row[Any], turn: int, count: int) -> list[int]:
    """Places of the candidates in the order shown: random, and the same at every reload.

    assignment: one that was handed out before there was a key keeps the order it was shown in.
    """
    order = list(range(count))
    if assignment.keyed:
        chance.generator("order", assignment.id, turn).shuffle(order)
    else:
        random.Random(f"{assignment.id} {turn}").shuffle(order)
    return order
