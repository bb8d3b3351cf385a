"""Put a server under load and say how long its users wait."""
