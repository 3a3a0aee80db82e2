"""Labels and items from other tools' files."""
