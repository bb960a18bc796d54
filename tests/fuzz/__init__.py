"""Everything that reads what others wrote, given what nobody should write.

``TXVALKEYCLUSTER_FUZZ`` is how many inputs there are in all, ``TXVALKEYCLUSTER_SEED`` where chance begins.  Valid
inputs are changed by chance, since pure noise ends at the first check.
"""
