"""The page of one denoised scan: what it shows of images and regions, beside the scan before and a reference."""
