"""Editing sessions recorded from a real editor, and their replay against any server."""
