"""SUV from the header: decay, units, body size and nuclides, each formula with its source."""
