import pytest

from clients.evaluate import sandbox


@pytest.fixture(scope="session")
def cage() -> sandbox.Sandbox:
    """A real sandbox with short limits; skips where the machine allows none."""
    limits = sandbox.Limits(wall_seconds=5.0, cpu_seconds=1)
    try:
        return sandbox.strongest(limits)
    except sandbox.SandboxError as error:
        pytest.skip(str(error))
