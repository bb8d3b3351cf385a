"""Development commands: what the parts are worth, each beside its alternative."""
