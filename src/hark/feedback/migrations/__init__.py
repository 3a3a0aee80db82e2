"""How the tables came to be, one module for each version; run by Alembic through `env.py`."""
