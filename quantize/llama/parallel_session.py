"""Several sequences side by side in one context, for timing what a busy server does."""

from quantize.llama.session import LlamaSession


class ParallelSession(LlamaSession):
    """Hold a model whose sequences grow in step; the first one is the one that `decode` fills."""

    def fork(self) -> None:
        """Let every other sequence begin with what the first one holds."""
        memory = self.lib.llama_get_memory(self._context)
        for sequence in range(1, self.num_sequences):
            self.lib.llama_memory_seq_rm(memory, sequence, -1, -1)
            self.lib.llama_memory_seq_cp(memory, 0, sequence, -1, -1)

    def step(self, token_id: int, num_sequences: int) -> None:
        """Append one token to each of the first sequences, in one call."""
        for row in range(num_sequences):
            self._put(row, token_id, self.n_past, sequence=row, wanted=True)
        self._batch.n_tokens = num_sequences
        self._run()
        self.n_past += 1

    def truncate(self, length: int) -> None:
        """Forget what stands behind a position, in every sequence."""
        memory = self.lib.llama_get_memory(self._context)
        for sequence in range(self.num_sequences):
            self.lib.llama_memory_seq_rm(memory, sequence, length, -1)
        self.n_past = length
