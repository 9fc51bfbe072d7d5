"""One recipe file per reference model."""
