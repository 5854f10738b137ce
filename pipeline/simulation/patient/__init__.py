"""The patient of a simulated scan: anatomy, physique, lesions, and the uptake of a tracer."""
