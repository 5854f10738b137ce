"""The benchmark: every method on the same images, detection, phantom, uncertainty and cost; one table and one page."""
