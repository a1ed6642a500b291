"""Fitting the calibration: measured kernel tables in, a handful of physical numbers out.

`columns` says what a table of measured kernels holds, `tables` reads it.
"""
