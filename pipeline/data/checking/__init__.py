"""What is wrong with a manifest or its images, and what a manifest holds."""
