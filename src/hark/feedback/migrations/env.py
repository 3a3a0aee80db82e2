"""Run by Alembic: migrations inside the transaction that `hark.feedback.store` has begun."""

from __future__ import annotations

from alembic import context

from hark.feedback.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
