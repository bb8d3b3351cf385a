"""Which columns of a weight see large inputs: collected on training text, kept, read, checked."""
