"""How one model is loaded: where it comes from, in what precision, and where its weights wait."""
