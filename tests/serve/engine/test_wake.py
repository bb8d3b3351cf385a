"""Figures are measured at a model's first start, found again at the next, and never force."""

from __future__ import annotations

import msgspec
import pytest

from serve.engine import wake as wake_module
from serve.engine.config import EngineConfig
from serve.engine.model import Model
from serve.engine.tuning import Tuning
from serve.engine.tuning_store import keep, tuning_file
from serve.engine.wake import wake

pytestmark = pytest.mark.weights

KNOWN = Tuning(
    threads=1,
    threads_batch=1,
    row_seconds={1: 0.01},
    chunk_seconds={32: 0.064},
    tried={},
    measuring_seconds=1.0,
    cpu_share=1.0,
)


@pytest.fixture(scope="module")
def model(smollm2_gguf):
    config = EngineConfig(model=str(smollm2_gguf), context_length=256, slots=2, n_batch=32)
    model = Model.load(config)
    yield model
    model.close()


@pytest.fixture
def config(smollm2_gguf, tmp_path):
    return EngineConfig(model=str(smollm2_gguf), n_batch=32, tuning_folder=str(tmp_path))


def measured(share):
    def measure(*_args, **_fields):
        return msgspec.structs.replace(KNOWN, cpu_share=share)

    return measure


def test_a_first_start_measures_and_says_so_and_a_second_finds_it(model, config, monkeypatch):
    said = []
    monkeypatch.setattr(wake_module, "measure", measured(1.0))
    costs = wake(model, config, said.append)
    assert "--no-tune" in said[0]
    assert costs.seconds_per_row == pytest.approx(0.002)
    assert (model.info.threads, model.info.tuning) == (1, KNOWN)
    monkeypatch.delattr(wake_module, "measure")
    said.clear()
    assert wake(model, config, said.append).best_chunk == 32
    assert said == []


def test_figures_of_a_busy_machine_are_not_kept(model, config, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(wake_module, "measure", measured(0.4))
    wake(model, config, said.append)
    assert "40%" in said[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_no_reason_not_to_serve(model, config, monkeypatch):
    said = []
    monkeypatch.setattr(wake_module, "measure", measured(1.0))
    wake(model, msgspec.structs.replace(config, tuning_folder="/proc/none"), said.append)
    assert "cannot be kept" in said[-1]


def test_without_a_folder_nothing_is_measured(model, config, monkeypatch):
    monkeypatch.delattr(wake_module, "measure")
    costs = wake(model, msgspec.structs.replace(config, tuning_folder=None), pytest.fail)
    assert costs.seconds_per_row > 0
    assert costs.best_chunk is None


def test_what_moves_the_figures_moves_the_file(model, config):
    files = {
        tuning_file(changed, model.info, n_batch=32)
        for changed in (
            config,
            msgspec.structs.replace(config, threads=1),
            msgspec.structs.replace(config, repack=False),
            msgspec.structs.replace(config, kv_type="q8_0"),
        )
    }
    assert len(files | {tuning_file(config, model.info, n_batch=64)}) == 5


def test_threads_that_are_configured_are_the_only_ones_measured(model, config):
    wish = msgspec.structs.replace(config, threads=1)
    wake(model, wish, lambda _text: None)
    assert (model.info.threads, model.info.tuning.threads_batch) == (1, 1)
    assert model.info.tuning.tried == {}
    keep(tuning_file(wish, model.info, n_batch=32), KNOWN)
    wake(model, wish, pytest.fail)
    assert model.info.tuning == KNOWN
