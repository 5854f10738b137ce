"""The benchmark: every method on the same images, detection, phantom, uncertainty and cost; one table and one page.

A part, such as `images` or `detection`, is a module with a function of the form `pipeline.benchmark.work.Part`.
"""
