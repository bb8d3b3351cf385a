"""The engine rooms: tokens in, events out, one thread that touches llama.cpp. Knows no HTTP."""
