"""From a base and an adapter to one 16-bit GGUF, with the proof that nothing was lost."""
