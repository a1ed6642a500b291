"""Multiples of the SI units that roofrack computes in (s, byte, FLOP, W, USD)."""

HOUR = 3600.0
"""Seconds in an hour."""
YEAR = 8766.0 * HOUR
"""Seconds in a year of 365.25 days."""
KILOWATT_HOUR = 1000.0 * HOUR
"""Joules in a kilowatt hour."""
MILLION = 1e6
"""Tokens in the unit that token prices are quoted for."""
