"""The order in which responses are shown is drawn by a key of the server's.

Assignments of before keep the order that was shown: `keyed` is false for them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Mark the assignments that there are."""
    keyed = sa.Column("keyed", sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column("assignments", keyed)


def downgrade() -> None:
    """Assignments in hand are shown in another order then."""
    op.drop_column("assignments", "keyed")
