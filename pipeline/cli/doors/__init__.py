"""Commands by which other systems run the denoiser: BIDS app, module of a DICOM router."""
