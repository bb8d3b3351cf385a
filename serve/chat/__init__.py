"""From messages or a cursor position to prompt text; knows neither HTTP nor llama_cpp."""
