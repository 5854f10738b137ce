"""What networks read of the noise of a scan: statistics of all of it, and a map of where it is."""
