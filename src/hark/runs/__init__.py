"""Run directories, manifests, metrics, fingerprints, progress. No machine learning, no torch."""
