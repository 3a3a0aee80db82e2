"""Collecting feedback from people: studies, labels, and the store that loses none."""
