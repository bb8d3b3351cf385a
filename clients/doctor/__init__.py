"""Check a server's abilities, measure it, and say what to change."""
