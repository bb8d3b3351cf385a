"""Stored prefixes in files: bounded, private, whole or dropped, and there after a restart."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.config import EngineConfig
from serve.engine.disk_tier import DiskTier
from serve.engine.errors import CacheFolderError
from serve.engine.identity import cache_identity, file_fingerprint
from serve.engine.prefix import StateFile, Tier, common_prefix_length
from serve.engine.prefix_cache import SETTLED_SECONDS, PrefixCache

PLENTY = 10**6
TEXT = list(range(1, 121))
OTHER = list(range(130, 230))


@pytest.fixture
def open_disk(tmp_path):
    """Open the same folder as often as wanted; everything is closed at the end."""
    opened = []

    def open_(capacity=PLENTY, identity="model-a", **fields):
        opened.append(DiskTier(tmp_path / "cache", capacity, identity, **fields))
        return opened[-1]

    yield open_
    for disk in opened:
        disk.close()


def state_of(token_ids):
    return np.repeat(np.array(token_ids, np.uint16), 4).view(np.uint8)


def store(disk, *texts, scope=""):
    """Write prefixes the way the cache does and wait for the files."""
    cache = PrefixCache(PLENTY, disk=disk)
    for text in texts:
        cache.put(text, scope, state_of(text), 0.0)
    cache.close()


def only_file(disk):
    (file,) = disk.files
    return file


def answer(harness, prompt, **fields):
    generation = harness.submit(prompt, max_tokens=4, **fields)
    harness.run()
    events = harness.events(generation)
    assert harness.tokens(events) == harness.expected(prompt, 4)
    assert harness.finished(events).error is None
    return harness.finished(events).num_cached_tokens, generation.sequence.cached_tier


def test_a_prefix_is_there_after_a_restart(make_harness, open_disk):
    before = make_harness(cache_bytes=PLENTY, disk=open_disk())
    answer(before, TEXT)
    before.keeper.close(before.now)
    after = make_harness(cache_bytes=PLENTY, disk=open_disk())
    assert answer(after, TEXT) == (119, Tier.DISK)
    assert after.worker.counters.cached_disk_tokens == 119


visits = st.lists(
    st.tuples(
        st.sampled_from([TEXT, OTHER, TEXT[:60] + OTHER[:40]]),
        st.integers(1, 120),
        st.sampled_from(["", "anna"]),
        st.sampled_from(["stay", "restart", "restart as another model"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(visits, st.sampled_from([1500, 4000, PLENTY]), st.booleans())
def test_answers_stay_those_of_a_fresh_engine_over_restarts(make_harness, script, size, can_trim):
    with tempfile.TemporaryDirectory() as folder:
        identity, known, harness = "model-a", [], None
        for text, count, scope, after in script:
            if harness is None:
                disk = DiskTier(Path(folder) / "cache", size, identity, can_trim=can_trim)
                harness = make_harness(cache_bytes=2000, disk=disk, can_trim=can_trim)
            prompt = [*text[:count], 250]
            cached, _ = answer(harness, prompt, cache_scope=scope)
            earlier = (ids for *key, ids in known if key == [identity, scope])
            assert cached <= max((common_prefix_length(i, prompt) for i in earlier), default=0)
            known.append((identity, scope, harness.generations[-1].sequence.token_ids))
            if after != "stay":
                harness.keeper.close(harness.now)
                check_books(disk, size)
                identity = "model-a" if after == "restart" else "model-b"
                harness = None
        if harness is not None:
            harness.keeper.close(harness.now)
            check_books(disk, size)


def check_books(disk, size):
    on_disk = sum(path.stat().st_size for path in disk._root.glob("*/*"))
    assert disk.num_bytes == on_disk <= size


def test_another_scope_does_not_see_it_nor_find_its_name_in_the_file(make_harness, open_disk):
    disk = open_disk()
    store(disk, TEXT, scope="sk-secret")
    after = make_harness(cache_bytes=PLENTY, disk=open_disk())
    assert answer(after, TEXT)[0] == 0
    assert b"sk-secret" not in only_file(disk).path.read_bytes()
    again = make_harness(cache_bytes=PLENTY, disk=open_disk())
    assert answer(again, TEXT, cache_scope="sk-secret") == (119, Tier.DISK)


def test_another_model_or_build_does_not_see_it(make_harness, open_disk):
    store(open_disk(), TEXT)
    other = open_disk(identity="model-b")
    assert answer(make_harness(cache_bytes=PLENTY, disk=other), TEXT)[0] == 0
    assert other.num_bytes > len(TEXT)


@pytest.mark.parametrize("where", [0, 9, 118, -40, -1])
def test_a_damaged_file_is_dropped_with_a_warning_and_its_text_read(
    make_harness, open_disk, caplog, where
):
    disk = open_disk()
    store(disk, TEXT)
    path = only_file(disk).path
    content = bytearray(path.read_bytes())
    content[where] ^= 0x55
    path.write_bytes(content)
    cached, _ = answer(make_harness(cache_bytes=PLENTY, disk=open_disk()), TEXT)
    assert cached == 0
    assert "damaged" in caplog.text
    assert not path.exists()


def test_a_file_cut_short_is_dropped_when_the_folder_is_read(open_disk, caplog):
    disk = open_disk()
    store(disk, TEXT)
    path = only_file(disk).path
    path.write_bytes(path.read_bytes()[:-1])
    assert open_disk().files == []
    assert str(path) in caplog.text
    assert not path.exists()


def test_a_file_that_vanished_is_read_as_text(make_harness, open_disk):
    store(open_disk(), TEXT)
    disk = open_disk()
    only_file(disk).path.unlink()
    assert answer(make_harness(cache_bytes=PLENTY, disk=disk), TEXT)[0] == 0
    assert disk.files == []


def test_files_and_folder_are_for_their_owner_alone(open_disk):
    disk = open_disk()
    store(disk, TEXT)
    path = only_file(disk).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_bound_holds_and_the_longest_unused_goes_first(open_disk):
    texts = [[start] * 100 for start in (1, 2, 3)]
    disk = open_disk(capacity=3000)
    store(disk, *texts[:2])
    first = next(file for file in disk.files if file.token_ids[0] == 1)
    again = open_disk(capacity=3000)
    os.utime(first.path, (10**9, 10**9))
    bounded = open_disk(capacity=3000)
    store(bounded, texts[2])
    assert sorted(file.token_ids[0] for file in bounded.files) == [2, 3]
    on_disk = sum(path.stat().st_size for path in first.path.parent.iterdir())
    assert bounded.num_bytes == on_disk <= 3000
    assert (bounded.evictions, len(again.files)) == (1, 2)


def test_what_was_used_stays_now_and_after_a_restart(open_disk):
    disk = open_disk()
    store(disk, [1] * 100, [2] * 100)
    for file in disk.files:
        os.utime(file.path, (10**9, 10**9 + file.token_ids[0]))
    disk = open_disk(capacity=3000)
    used = next(file for file in disk.files if file.token_ids[0] == 1)
    assert disk.load(used) is not None
    reopened = open_disk(capacity=3000)
    for each, text in ((disk, [3] * 100), (reopened, [4] * 100)):
        store(each, text)
        assert 1 in {file.token_ids[0] for file in each.files}
    assert disk.evictions == reopened.evictions == 1


def test_what_will_never_fit_is_not_written(open_disk):
    disk = open_disk(capacity=500)
    store(disk, TEXT)
    assert (disk.files, disk.evictions) == ([], 0)


def test_the_next_state_of_a_text_takes_the_place_of_the_last(open_disk):
    store(open_disk(), TEXT[:115])
    store(open_disk(), TEXT)
    disk = open_disk()
    assert only_file(disk).token_ids == TEXT
    store(disk, TEXT[:80])
    assert only_file(open_disk()).token_ids == TEXT


def test_a_prefix_is_written_once_it_was_unused_for_a_while(make_harness, open_disk):
    disk = open_disk()
    harness = make_harness(cache_bytes=PLENTY, disk=disk)
    answer(harness, TEXT)
    harness.step(seconds=2.0)
    assert harness.keeper.seconds_to_next(harness.now) == pytest.approx(SETTLED_SECONDS)
    harness.step(seconds=SETTLED_SECONDS)
    assert harness.keeper.seconds_to_next(harness.now) is None
    harness.cache.close()
    assert only_file(disk).token_ids[:120] == TEXT
    assert not harness.cache.prefixes[0].is_pinned


def test_a_prefix_stays_in_memory_until_its_file_is_written(open_disk):
    class SlowDisk:
        files = ()

        def write(self, prefix, on_done):
            self.on_done = on_done

    disk = SlowDisk()
    cache = PrefixCache(1000, disk=disk)
    cache.put(TEXT, "", state_of(TEXT), 0.0)
    cache.write_out(cache.next_settled(SETTLED_SECONDS))
    cache.put(OTHER, "", state_of(OTHER), 10**6)
    assert [each.token_ids for each in cache.prefixes] == [TEXT]
    disk.on_done()
    cache.put(OTHER, "", state_of(OTHER), 10**6)
    assert [each.token_ids for each in cache.prefixes] == [OTHER]


def test_a_disk_that_is_full_costs_the_file_and_nothing_else(open_disk, caplog):
    disk = open_disk()
    disk._folder.rmdir()
    store(disk, TEXT)
    assert "could not be stored" in caplog.text
    assert disk.files == []


def test_purging_deletes_the_files_of_every_model_and_what_is_on_its_way(open_disk):
    store(open_disk(identity="model-b"), OTHER)
    disk = open_disk()
    cache = PrefixCache(PLENTY, disk=disk)
    cache.put(TEXT, "", state_of(TEXT), 0.0)
    may_write = threading.Event()
    disk._jobs.put(may_write.wait)
    cache.write_out(cache.prefixes[0])
    cache.purge()
    may_write.set()
    cache.close()
    assert not list(disk._root.glob("*/*.state"))
    assert (cache.prefixes, cache.num_bytes, disk.num_bytes) == ([], 0, 0)


def test_a_file_that_was_finished_after_a_purge_goes_too(open_disk):
    disk = open_disk()
    path = disk._folder / "late.state"
    path.write_bytes(b"late")
    disk.purge()
    disk._enter(StateFile(path, 4, 0.0), epoch=0)
    assert (disk.files, path.exists()) == ([], False)


def test_unfinished_files_of_a_crash_are_cleared_away(open_disk):
    folder = open_disk()._folder
    old, new = folder / "a.1.tmp", folder / "b.2.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (10**9, 10**9))
    open_disk()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheFolderError, match="cache_folder"):
        DiskTier(tmp_path / "file", PLENTY, "model-a")


def test_memory_that_cannot_be_cut_keeps_each_whole_prefix(open_disk):
    disk = open_disk(can_trim=False)
    cache = PrefixCache(PLENTY, can_trim=False, disk=disk)
    for text in (TEXT, TEXT[:110]):
        cache.put(text, "", state_of(text), 0.0)
    cache.close()
    assert sorted(len(file.token_ids) for file in open_disk(can_trim=False).files) == [110, 120]


def test_the_identity_changes_with_the_file_the_build_and_the_layout(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(bytes(5_000_000))
    config = EngineConfig(model=str(path))
    names = {
        cache_identity(config, "build 1"),
        cache_identity(config, "build 2"),
        cache_identity(EngineConfig(model=str(path), kv_type="q8_0"), "build 1"),
        cache_identity(EngineConfig(model=str(path), flash_attention=False), "build 1"),
    }
    assert len(names) == 4
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache_identity(config, "build 1") not in names
    fingerprint = file_fingerprint(path)
    os.utime(path, (1, 1))
    assert file_fingerprint(path) != fingerprint
