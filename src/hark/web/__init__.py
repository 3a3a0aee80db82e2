"""The feedback application over HTTP: an API for programs, pages for people, live models."""
