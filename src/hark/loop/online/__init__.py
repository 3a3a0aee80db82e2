"""Iterated online training: Bai et al. (2204.05862), section 4.5 (docs/decisions/0015).

Departures
1. Round 0 trains on comparisons known beforehand alone, and so makes the first policy that is
   served; the paper began from its best policy at the time.
2. Preference model and policy restart from the same two checkpoints every round. The paper does not
   say where its own restart.
3. Previous and new policies answer side by side in every study, so that the votes that train the
   next models also rate the last ones.
4. How many best-of-k comparisons there are, and in which rounds, is a setting; the paper collected
   them before the online phase.
"""
