"""Fuzzing: every parser, and a whole client, with damaged inputs.

``TXVALKEYCLUSTER_FUZZ`` is the number of inputs of all tests together, ``TXVALKEYCLUSTER_SEED`` the seed.  Inputs are
valid ones with random changes, because a parser refuses pure noise at its first check.
"""
