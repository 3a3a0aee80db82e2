"""Models that answer while a person works, over any OpenAI-compatible endpoint."""
