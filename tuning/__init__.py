"""Fine-tuning at the sites where a concept sits."""
