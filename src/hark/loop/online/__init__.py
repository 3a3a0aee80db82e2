"""Iterated online training: Bai et al. (2204.05862), and docs/decisions/0015.

Departures
1. Round 0 trains on comparisons known beforehand alone, and so makes the first policy that is
   served; the paper began from its best policy at the time.
2. Preference model and policy restart from the same two checkpoints every round, which are
   settings. The paper's are a preference model pretrained on public votes and a context-distilled
   policy. The recipe has the first; its policies restart from the SFT model, for a model of half a
   million parameters does not answer because a prompt says so: there is nothing to distil.
3. Previous and new policies answer side by side in every study, so that the votes that train the
   next models also rate the last ones.
4. How many best-of-k comparisons there are, and in which rounds, is a setting; the paper collected
   them before the online phase.
"""
