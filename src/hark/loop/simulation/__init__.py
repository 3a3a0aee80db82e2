"""Simulated labelers: the playground's population at work on the feedback application's real API.

Who they are and what they choose is planted, so that what the application says of them can be held
against the truth: who is a spammer, which model is better, whether intervals hold what they state.
Nothing here loads torch.
"""
