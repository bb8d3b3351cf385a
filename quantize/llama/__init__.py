"""llama.cpp and its files: the library, what a GGUF holds, the quantizer and its types."""
