"""Responses for the items of open studies that wait for them, drawn in the background.

What failed for the endpoint's sake is not kept, for nothing was drawn: the item is tried again,
after a wait that doubles. What was cut off or blank is kept for the record and drawn again under
other seeds, with the same waits. Two servers on one store may both draw for an item; the store
keeps the first responses that can be read, and refuses the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from hark.errors import HarkError
from hark.feedback import items, studies
from hark.feedback.chance import chance_of
from hark.feedback.items import Item, candidates_of
from hark.feedback.refusals import ConflictError
from hark.feedback.store import Store
from hark.feedback.studies import Study
from hark.web.live.endpoints import LiveModels, UnavailableError, Wanted
from hark.web.live.replies import why_not
from hark.web.live.turns import wanted_of_item

LOG = logging.getLogger("hark.web")
ITEMS_AT_ONCE: Final = 4
"""Few, so that people who wait for a reply do not wait for these."""
POLL_SECONDS = 2.0
"""Between two looks for items that wait, and before a first retry."""
LONGEST_WAIT_SECONDS: Final = 300.0


@dataclass(slots=True)
class _Delay:
    """An item whose drawing has failed."""

    failures: int
    until: float


class Drawer:
    """Fills items until it is cancelled; used in one event loop."""

    def __init__(self, store: Store, models: LiveModels) -> None:
        self.store, self.models = store, models
        self._delays: dict[str, _Delay] = {}
        self._troubled: set[str] = set()
        """Studies whose trouble has been told in the log."""

    async def run(self) -> None:
        """Draw whatever waits; the store or an endpoint that is down is waited for."""
        while True:
            try:
                drawn = await self._round()
            except HarkError as error:
                drawn = 0
                LOG.warning("drawing responses: %s", error)
            except Exception:
                drawn = 0
                LOG.exception("drawing responses: a defect")
            if not drawn:
                await asyncio.sleep(POLL_SECONDS)

    async def _round(self) -> int:
        """Try every item that waits and is not delayed, once; return how many have been filled."""
        waiting = await asyncio.to_thread(self._find_waiting)
        free = asyncio.Semaphore(ITEMS_AT_ONCE)

        async def fill(study: Study, item: Item) -> bool:
            async with free:
                return await self._fill(study, item)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fill(study, item)) for study, item in waiting]
        return sum(task.result() for task in tasks)

    def _find_waiting(self) -> list[tuple[Study, Item]]:
        now = time.monotonic()
        delayed = {item_id for item_id, delay in self._delays.items() if delay.until > now}
        return [
            (study, item)
            for study in studies.find_drawn(self.store)
            if self._can_draw(study)
            # Items that fail for good must not stand before those that would not.
            for item in items.to_draw(self.store, study.id, limit=50 + len(delayed))
            if item.id not in delayed
        ]

    def _can_draw(self, study: Study) -> bool:
        try:
            for name in study.settings.snapshots:
                self.models.get(name)
        except UnavailableError as error:
            if not error.passes:
                self._tell_trouble(study, error.for_log)
            return False
        return True

    def _tell_trouble(self, study: Study, what: str) -> None:
        """Once, until something of the study has been drawn."""
        if study.id not in self._troubled:
            self._troubled.add(study.id)
            LOG.warning("study '%s' waits for responses: %s", study.settings.name, what)

    async def _fill(self, study: Study, item: Item) -> bool:
        try:
            wanted = await asyncio.to_thread(self._wanted, study, item)
            drawn = await self.models.draw(wanted, lambda _place, _piece: None)
            if all(one.finish != "error" for one in drawn):
                await asyncio.to_thread(items.put_candidates, self.store, item.id, drawn)
        except (UnavailableError, ConflictError):
            return False  # The models went a moment ago, or somebody else has filled it.
        except HarkError as error:
            self._put_off(item)
            self._tell_trouble(study, str(error))
            return False
        broken = [one for one in drawn if not one.readable]
        if broken:
            self._put_off(item)
            self._tell_trouble(study, f"one {why_not(broken[0])}")
            return False
        self._delays.pop(item.id, None)
        self._troubled.discard(study.id)
        return True

    def _wanted(self, study: Study, item: Item) -> tuple[Wanted, ...]:
        with self.store.read() as connection:
            _, generation = candidates_of(connection, item.id)
        chance = chance_of(self.store)
        return wanted_of_item(chance, study.settings, item, generation=generation + 1)

    def _put_off(self, item: Item) -> None:
        before = self._delays.get(item.id)
        failures = 1 if before is None else before.failures + 1
        wait = min(POLL_SECONDS * 2.0 ** (failures - 1), LONGEST_WAIT_SECONDS)
        self._delays[item.id] = _Delay(failures=failures, until=time.monotonic() + wait)
