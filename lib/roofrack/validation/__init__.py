"""Predictions against what others measured: the rows, the rules for leaving some out, the errors.

`silicon` reads the serving runs of the `aiconfigurator-core` package, `rows` says what a row is,
`rules` leaves rows out by rules.yaml, which was committed before the first comparison.
"""
