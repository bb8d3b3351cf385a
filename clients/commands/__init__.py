"""The commands of `python -m clients`, one a file, each with `add_parser` and `run`."""
