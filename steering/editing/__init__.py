"""Pictures as the denoiser sees them, the way that one took, and what of it a later call keeps."""
