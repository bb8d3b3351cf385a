"""Training speed, measured beside plain TRL+PEFT on the same card and rows."""
