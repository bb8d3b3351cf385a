"""Say in a GGUF which tokens mark a gap to fill in the middle.

llama.cpp finds the marks of known families by their text when it loads a file; other readers look
for the keys. A converter writes them for few models, so they are added here, as llama.cpp sees
them. Knows nothing of training.
"""

from pathlib import Path

from quantize.llama.gguf_header import read_header
from quantize.llama.session import LlamaSession

KEYS = {
    "prefix": "tokenizer.ggml.fim_pre_token_id",
    "suffix": "tokenizer.ggml.fim_suf_token_id",
    "middle": "tokenizer.ggml.fim_mid_token_id",
}


def missing_fim_keys(path: Path) -> dict[str, int]:
    """Return the keys a file lacks; none where the vocabulary has not all three marks."""
    header = read_header(path)
    if all(key in header.metadata for key in KEYS.values()):
        return {}
    with LlamaSession(path, n_ctx=16, n_batch=16) as session:
        found = session.fim_ids()
    if min(found.values()) < 0:
        return {}
    return {
        KEYS[mark]: number for mark, number in found.items() if KEYS[mark] not in header.metadata
    }
