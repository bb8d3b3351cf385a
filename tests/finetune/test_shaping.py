"""A step is packed only where examples in a row do not see each other."""

from types import SimpleNamespace

from finetune import shaping
from finetune.config import TrainConfig


def test_a_model_that_looks_across_examples_is_trained_unpacked(monkeypatch, capsys):
    monkeypatch.setattr(shaping, "is_packed", lambda settings: True)
    monkeypatch.setattr(shaping, "enable_packed_attention", lambda: True)
    monkeypatch.setattr(shaping, "keeps_examples_apart", lambda model: False)
    chosen = SimpleNamespace(checkpointing=None)
    fast_model = SimpleNamespace(
        for_training=lambda model, use_gradient_checkpointing: setattr(
            chosen, "checkpointing", use_gradient_checkpointing
        )
    )
    settings = TrainConfig(batch_size=2, grad_accumulation=3)
    decision = shaping.decide(fast_model, object(), object(), settings)
    assert (decision.shape.row_tokens, decision.shape.rows_per_step) == (0, 6)
    assert chosen.checkpointing is False
    assert "training unpacked" in capsys.readouterr().err
