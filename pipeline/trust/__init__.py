"""How far a denoised scan may be believed: what its noise and its denoiser do to every number, measured on the scan."""
