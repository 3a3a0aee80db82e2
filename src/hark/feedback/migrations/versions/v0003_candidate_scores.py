"""A table for preference models' scores of candidates, to hold against labelers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "candidate_scores",
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("candidate_id", sa.String(length=64), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["candidate_id"],
            ["candidates.id"],
            name=op.f("fk_candidate_scores_candidate_id"),
        ),
        sa.PrimaryKeyConstraint("model", "candidate_id", name=op.f("pk_candidate_scores")),
    )


def downgrade() -> None:
    """Take it away; scores can be computed again."""
    op.drop_table("candidate_scores")
