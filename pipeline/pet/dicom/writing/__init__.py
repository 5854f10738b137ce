"""From a series in SUVbw to derived DICOM that any viewer reads with the same SUV."""
