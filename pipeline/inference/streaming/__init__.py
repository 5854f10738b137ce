"""Exact inference of a whole volume in bounded memory, slab by slab, the same to the bit as in one pass."""
