"""Tool calls in a model's text and in its history; knows neither HTTP nor llama_cpp."""
