"""Two teams of compute threads on the cores of one halve its speed; there must be one team."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import asyncio, os, sys
from serve.engine.engine import Engine, EngineConfig
from serve.engine.request import GenerationRequest, SamplingParams

count = lambda: len(os.listdir("/proc/self/task"))
before = count()
engine = Engine.load(EngineConfig(
    model=sys.argv[1], slots=1, context_length=256, n_batch=32, threads=2, tuning_folder=sys.argv[2]
))

async def generate():
    request = GenerationRequest(
        prompt_token_ids=[1, 2, 3], sampling=SamplingParams(temperature=0), max_tokens=2
    )
    async for _ in engine.submit(request):
        pass

asyncio.run(generate())
print(count() - before)
engine.close()
"""


@pytest.mark.weights
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_only_the_worker_has_a_team_of_compute_threads(smollm2_gguf, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(smollm2_gguf), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert int(done.stdout) == 2  # the worker is one of them
