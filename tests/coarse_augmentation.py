"""What makes the shipped recipe quick: few scans, and those in voxels about as coarse as those of the tiny scanner."""

COARSE_AUGMENTATION = {"n_scans": "2", "fitted#n_scans": "3", "patches#reconstruction#voxel_size": "[10.0,14.0]"}
