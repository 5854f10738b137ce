"""From a folder of DICOM files to one checked series in SUVbw."""
