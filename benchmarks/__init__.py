"""hark beside its peers: the same data, weights, precision and machine, in one run."""
