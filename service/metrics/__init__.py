"""The catalogue of metrics, and the recorder that updates them."""
