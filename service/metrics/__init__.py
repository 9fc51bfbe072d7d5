"""What is measured: the catalogue of metrics, and the recorder that moves them."""
