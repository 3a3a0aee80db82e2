"""The server's own keys, one for each purpose, kept in the store so that all its servers agree."""

from __future__ import annotations

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from hark.feedback.identifiers import new_secret
from hark.feedback.store import Store
from hark.feedback.tables import secret_keys


def find(store: Store, purpose: str) -> str:
    """The key for this purpose; drawn when first asked for, and the same ever after."""
    if purpose not in store.secrets:
        store.secrets[purpose] = _find(store, purpose)
    return store.secrets[purpose]


def _find(store: Store, purpose: str) -> str:
    mine = select(secret_keys.c.secret).where(secret_keys.c.purpose == purpose)
    with store.read() as connection:
        found = connection.execute(mine).scalar_one_or_none()
    if found is None:
        row = {"purpose": purpose, "secret": new_secret(), "created_at": store.clock()}
        try:
            with store.write() as connection:
                connection.execute(insert(secret_keys).values(row))
        except IntegrityError:  # another server was first
            pass
        with store.read() as connection:
            found = connection.execute(mine).scalar_one()
    return str(found)
