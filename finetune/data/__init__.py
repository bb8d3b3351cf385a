"""Examples: where they come from, what they must look like, and how they become token ids."""
