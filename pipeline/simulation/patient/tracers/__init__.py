"""The tracers that can be simulated, one a module, with the source of every value.

Where a publication gives the maximum of an organ, its mean is taken as 0.6 of that: the liver, spleen and
kidneys of PSMA-11 then have the means that are customary (5, 7 and 40).
"""
