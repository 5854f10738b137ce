"""The parts of the benchmark: images, unseen conditions, real scans, detection, phantom, uncertainty, cost."""
