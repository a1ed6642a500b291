"""Multiples of the SI units that roofrack computes in (s, byte, FLOP, W, USD)."""

HOUR = 3600.0
"""Seconds in an hour."""
MILLION = 1e6
"""Tokens in the unit that token prices are quoted for."""
