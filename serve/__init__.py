"""Serve a GGUF over HTTP: engine, chat and api, one on top of the other."""
