"""Orders are drawn by a key of the server's, and items wait in a queue that each labeler passes.

Assignments of before keep the order that was shown: `keyed` is false for them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BEFORE = "ix_items_study_id_use_votable_fill_position"
NOW = "ix_items_study_id_use_votable_fill_queue"
SEEN = "ix_assignments_person_id_leased_at"
PLACE = ["study_id", "use", "votable", "fill"]


def upgrade() -> None:
    """Mark the assignments that there are; items wait in the order of their positions."""
    op.add_column(
        "assignments", sa.Column("keyed", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    for table, name in (("items", "queue"), ("studies", "queued")):
        op.add_column(table, sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE items SET queue = position + 1")
    op.execute(
        "UPDATE studies SET queued = (SELECT COALESCE(MAX(queue), 0) FROM items "
        "WHERE items.study_id = studies.id)"
    )
    op.drop_index(BEFORE, table_name="items")
    op.create_index(NOW, "items", [*PLACE, "queue"])
    op.create_index(SEEN, "assignments", ["person_id", "leased_at"])
    op.create_table(
        "queue_places",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.Column("use", sa.String(length=16), nullable=False),
        sa.Column("fill", sa.String(length=8), nullable=False),
        sa.Column("passed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"], ["people.id"], name=op.f("fk_queue_places_person_id")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_queue_places_study_id")
        ),
        sa.PrimaryKeyConstraint(
            "study_id", "person_id", "use", "fill", name=op.f("pk_queue_places")
        ),
    )


def downgrade() -> None:
    """Assignments in hand are shown in another order then."""
    op.drop_table("queue_places")
    op.drop_index(NOW, table_name="items")
    op.create_index(BEFORE, "items", [*PLACE, "position"])
    op.drop_column("studies", "queued")
    op.drop_column("items", "queue")
    op.drop_index(SEEN, table_name="assignments")
    op.drop_column("assignments", "keyed")
