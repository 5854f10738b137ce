"""The benchmark: every method on the same images, detection, phantom, uncertainty and cost; one table and one page.

A part, such as ``images`` or ``detection``, is one module with one function of the form :data:`~pipeline.benchmark.work.Part`.
"""
