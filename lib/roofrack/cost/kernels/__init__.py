"""The kernel classes: what one call takes, given its shape, the chip and a few fitted numbers.

Each class is a page of its own. The same functions cost a model (`cost.forward`) and fit the
numbers to measured kernels (`roofrack.fitting`). MODEL section 10.
"""
