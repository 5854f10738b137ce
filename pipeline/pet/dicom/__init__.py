"""PET as DICOM: the attributes and private tags that reading and writing share."""
