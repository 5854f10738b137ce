"""The prepared store: volumes in SUV, compressed in checked chunks, that patches are read from."""
