"""Fine-tune a small code model into a LoRA adapter.

Knows base models, examples and training. Knows nothing of GGUF quantization, servers or clients;
what it leaves behind is a run directory (docs/artifacts.md).
"""
