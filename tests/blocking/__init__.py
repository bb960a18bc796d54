"""Tests of `txvalkeycluster.blocking`, and of the check of the thread in the plain client."""
