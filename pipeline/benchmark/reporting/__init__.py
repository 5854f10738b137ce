"""From stored results to what a person reads: one table, claims answered, curves, images, one page."""
