"""From a folder of scans to a manifest: headers, splits, tracers and exclusions."""
