"""Accounts of other tools' annotators: pseudonyms like everybody's, and no way to sign in.

Who they are stands in their login alone, and goes when they are forgotten.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from hark.feedback import accounts
from hark.feedback.identifiers import new_id, new_pseudonym
from hark.feedback.studies import Study, find_member
from hark.feedback.tables import members, people


class Annotators:
    """Accounts of a source's annotators, made when their first label is kept."""

    def __init__(self, connection: Connection, source: str) -> None:
        self.connection = connection
        self._prefix = f"import:{source}:"
        ours = people.c.login.startswith(accounts.normal_login(self._prefix), autoescape=True)
        rows = connection.execute(
            select(people.c.login, people.c.id, people.c.pseudonym).where(ours)
        )
        self._known = {login: (person_id, pseudonym) for login, person_id, pseudonym in rows}
        self._new: list[dict[str, Any]] = []
        self._seen: set[str] = set()

    def check(self, annotator: str) -> None:
        """Raises: InvalidLabelError for a name that no account can have."""
        self._login(annotator)

    def _login(self, annotator: str) -> str:
        return accounts.normal_login(f"{self._prefix}{annotator}")

    def of(self, annotator: str, now: float) -> tuple[str, str]:
        """Id and pseudonym."""
        login = self._login(annotator)
        if login not in self._known:
            person_id, pseudonym = new_id(), new_pseudonym()
            self._known[login] = (person_id, pseudonym)
            self._new.append(
                {
                    "id": person_id,
                    "pseudonym": pseudonym,
                    "role": "labeler",
                    "login": login,
                    "password_hash": None,
                    "disabled": True,
                    "created_at": now,
                }
            )
        self._seen.add(self._known[login][0])
        return self._known[login]

    def insert(self, study: Study, now: float) -> None:
        """Keep new accounts, and whoever has labels now takes part in the study."""
        if self._new:
            self.connection.execute(insert(people), self._new)
        part = {"study_id": study.id, "state": "active", "held_out": False, "joined_at": now}
        rows = [
            {**part, "person_id": person_id}
            for person_id in sorted(self._seen)
            if find_member(self.connection, study.id, person_id) is None
        ]
        if rows:
            self.connection.execute(insert(members), rows)
