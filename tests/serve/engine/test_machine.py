"""The machine's figures are plausible, and a container's limits count."""

from __future__ import annotations

import os

import pytest

from serve.engine import machine


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    return tmp_path


def test_without_limits_the_whole_machine_counts(cgroup):
    assert 1 <= machine.num_cores() <= os.cpu_count()
    available = machine.available_memory_bytes()
    assert available is None or available > 2**20


def test_a_container_s_memory_limit_counts(cgroup):
    (cgroup / "memory.max").write_text("3000000\n")
    (cgroup / "memory.current").write_text("1000000\n")
    assert machine.available_memory_bytes() == 2_000_000


def test_a_container_s_processor_quota_counts(cgroup):
    (cgroup / "cpu.max").write_text("100000 100000\n")
    assert machine.num_cores() == 1


def test_limits_that_are_not_set_do_not_count(cgroup):
    unlimited = machine.available_memory_bytes()
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("1000000\n")
    (cgroup / "cpu.max").write_text("max 100000\n")
    limited = machine.available_memory_bytes()
    assert (unlimited is None) == (limited is None)
    assert machine.num_cores() >= 1
