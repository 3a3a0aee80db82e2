"""hark: align language models with human feedback, end to end."""

import os

__version__ = "0.1.0"

# torch reads this once, before its first tensor. Large tensors then lie in huge pages where the
# system grants them: 2 to 3 % of a step of training on a CPU (decision 0019). 0 switches it off.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
