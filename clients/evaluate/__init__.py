"""Generate answers to programming problems, run them in a sandbox, and score them."""
