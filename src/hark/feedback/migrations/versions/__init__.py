"""One module for each version of the tables, in order; written by hand, and never changed."""
