"""What is known of model families: where text enters, how it is encoded, and how unknown pipelines are probed."""
