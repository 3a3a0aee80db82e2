"""Which run feeds which: stages, recipes, and the composition of training with evaluation."""
