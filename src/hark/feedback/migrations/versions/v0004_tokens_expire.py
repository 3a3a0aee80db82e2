"""API tokens expire; those that had no end get one, so that no program stops on the day."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SECONDS_LEFT = 90 * 86400.0
"""From the upgrade on, as long as a new token has."""


def upgrade() -> None:
    """Give every token an end, and let there be none without."""
    tokens = sa.table("tokens", sa.column("expires_at", sa.Double))
    endless = tokens.c.expires_at.is_(None)
    op.execute(tokens.update().where(endless).values(expires_at=time.time() + SECONDS_LEFT))
    with op.batch_alter_table("tokens") as batch:
        batch.alter_column("expires_at", existing_type=sa.Double(), nullable=False)


def downgrade() -> None:
    """Tokens may be without end again; those that have one keep it."""
    with op.batch_alter_table("tokens") as batch:
        batch.alter_column("expires_at", existing_type=sa.Double(), nullable=True)
