"""Packed rows are used only where examples do not see each other."""

import pytest

from finetune.isolation import keeps_examples_apart


@pytest.fixture
def model(tiny_model):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "proj" in name:
                weight.mul_(20)  # as trained, tokens mind what stands before them
    return model


def test_a_model_that_reads_positions_keeps_examples_apart(model):
    assert keeps_examples_apart(model)


def test_a_model_that_looks_across_examples_is_found_out(model):
    class Careless:
        config, parameters = model.config, model.parameters

        def __call__(self, **row):
            del row["position_ids"]
            return model(**row)

    assert not keeps_examples_apart(Careless())
