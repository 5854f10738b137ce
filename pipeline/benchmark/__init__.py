"""The benchmark: every method on the same images, detection, phantom, uncertainty and cost; one table and one page.

A part, such as `images`, is a module of `parts` with a function of the form `pipeline.benchmark.work.Part`.
"""

from pipeline.benchmark.definition import Definition, own_definition, read_definition

__all__ = ["Definition", "own_definition", "read_definition"]
