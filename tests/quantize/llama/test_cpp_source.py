"""The converter comes from the pinned archive only, and only its parts are unpacked."""

import io
import tarfile

import pytest

from quantize.digest import sha256_file
from quantize.errors import LibraryError
from quantize.llama import cpp_source as llama_cpp_source
from quantize.llama.cpp_source import Pin, converter_folder, installed_version, pin

FILES = {
    "vendor/llama.cpp/convert_hf_to_gguf.py": b"print()",
    "vendor/llama.cpp/conversion/base.py": b"",
    "vendor/llama.cpp/gguf-py/gguf/__init__.py": b"",
    "vendor/llama.cpp/src/llama.cpp": b"int x;",
    "vendor/llama.cpp/gguf-py/../../../../escape": b"no",
    "README.md": b"",
}


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Make a small archive, pinned as the installed release."""
    version = installed_version()
    path = tmp_path / "sdist" / f"llama_cpp_python-{version}.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"llama_cpp_python-{version}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    pinned = Pin(sdist_sha256=sha256_file(path), llama_cpp_commit="abc")
    monkeypatch.setattr(llama_cpp_source, "PINS", {version: pinned})
    monkeypatch.setenv("EDGESMITH_LLAMA_CPP_SDIST", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return path


def test_only_the_converters_parts_are_unpacked_and_only_once(archive):
    folder = converter_folder()
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "convert_hf_to_gguf.py",
        "conversion/base.py",
        "gguf-py/gguf/__init__.py",
    }
    archive.unlink()
    assert converter_folder() == folder


def test_an_archive_with_another_hash_is_refused(archive):
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(LibraryError, match="has SHA-256"):
        converter_folder()


def test_a_named_archive_that_is_absent_is_refused(archive, monkeypatch):
    monkeypatch.setenv("EDGESMITH_LLAMA_CPP_SDIST", str(archive.with_name("none.tar.gz")))
    with pytest.raises(LibraryError, match="not a file"):
        converter_folder()


def test_another_release_than_the_pinned_is_refused(monkeypatch):
    monkeypatch.setattr(
        llama_cpp_source, "PINS", {"9.9.9": Pin(sdist_sha256="", llama_cpp_commit="")}
    )
    with pytest.raises(LibraryError, match=r"pinned for 9\.9\.9"):
        pin()
