"""Real files that tests may use, each skipped with a reason where it is absent."""

import os
import signal
from pathlib import Path

import pytest

MODELS = Path(os.environ.get("EDGESMITH_TEST_MODELS", "~/.cache/edgesmith/models")).expanduser()
REPOSITORY = Path(__file__).resolve().parent.parent

# A script's background jobs ignore SIGINT, and so does all that they start; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST = ("test_end_to_end.py", "test_notebook.py", "test_pipeline.py", "test_command.py")
"""First, so that with two processes neither is left alone with them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


def _model(name: str) -> Path:
    path = MODELS / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {MODELS}; `make test-models` fetches it")
    return path


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    return _model("SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def qwen_coder_gguf() -> Path:
    return _model("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf")


@pytest.fixture(scope="session")
def gemma_gguf() -> Path:
    return _model("gemma-3-270m-Q4_K_M.gguf")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the development data folder is not beside the checkout")
    return path
