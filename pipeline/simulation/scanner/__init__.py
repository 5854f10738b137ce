"""The scanner of a simulated scan: geometry, acquisition, projection and reconstruction."""
