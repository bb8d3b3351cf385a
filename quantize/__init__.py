"""From a fine-tuned adapter, or any model, to measured and verified GGUF files."""
