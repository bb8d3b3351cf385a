"""A type for each tensor that loses least within a number of bytes."""
