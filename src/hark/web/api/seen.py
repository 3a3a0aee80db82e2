"""Studies as far as a caller knows of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from hark.feedback import rosters, studies
from hark.feedback.studies import MANAGERS, Study
from hark.web.api.descriptions import StudyName
from hark.web.identity import Anyone, Manager, Place


def seen_study(store: Place, caller: Anyone, name: StudyName) -> Study:
    """A study that the caller takes part in or may manage.

    Raises: NotFoundError, the same for one that is not theirs as for none.
    """
    if caller.person.role in MANAGERS:
        return studies.find_study(store, name)
    return rosters.find_own_study(store, name, caller.person.id)


def managed_study(store: Place, caller: Manager, name: StudyName) -> Study:
    """Any study, for managers. Raises: NotAllowedError before NotFoundError."""
    return studies.find_study(store, name)


Seen = Annotated[Study, Depends(seen_study)]
Managed = Annotated[Study, Depends(managed_study)]
