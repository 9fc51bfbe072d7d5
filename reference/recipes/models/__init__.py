"""One recipe file a reference model."""
