"""Reading Hugging Face checkpoints."""
