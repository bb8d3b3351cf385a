"""Configuration of editors and agents for one server; the plugins lie beside it as they are."""
