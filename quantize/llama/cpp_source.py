"""The converter of the very llama.cpp that is installed: found, checked by hash, unpacked once.

llama-cpp-python's source distribution carries `convert_hf_to_gguf.py` and `gguf-py`. Only those
parts are unpacked, into the user's cache. Knows nothing of models.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import msgspec
import platformdirs

from quantize.digest import sha256_file
from quantize.errors import LibraryError
from quantize.run import say

_PARTS = ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "conversion", "gguf-py")
_VARIABLE = "EDGESMITH_LLAMA_CPP_SDIST"


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Tie a release of llama-cpp-python to its source."""

    sdist_sha256: str
    llama_cpp_commit: str


# Source: the package index, and the release's own CHANGELOG.md for the commit.
PINS = {
    "0.3.36": Pin(
        sdist_sha256="832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        llama_cpp_commit="0c1e57098",
    )
}


def installed_version() -> str:
    """Return the version of the llama-cpp-python that is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("llama-cpp-python")
    except PackageNotFoundError as error:
        raise LibraryError(
            "llama-cpp-python is not installed; install the quantize extra"
        ) from error


def pin() -> Pin:
    """Return the pin of the installed release.

    Raises:
        LibraryError: when that release is not pinned.
    """
    version = installed_version()
    if version not in PINS:
        raise LibraryError(
            f"llama-cpp-python {version} is installed, but the converter is pinned for "
            f"{', '.join(PINS)}; install that version so that both come from one commit"
        )
    return PINS[version]


def converter_folder() -> Path:
    """Return the folder that holds the converter, unpacking it on first use."""
    version, pinned = installed_version(), pin()
    target = _cache() / f"llama.cpp-{version}-{pinned.sdist_sha256[:8]}"
    if not target.is_dir():
        _unpack(_sdist(version, pinned), target)
    return target


def _cache() -> Path:
    return Path(platformdirs.user_cache_dir("edgesmith"))


def _sdist(version: str, pinned: Pin) -> Path:
    name = f"llama_cpp_python-{version}.tar.gz"
    named = os.environ.get(_VARIABLE)
    path = Path(named).expanduser() if named else _cache() / name
    if named and path.is_dir():
        path /= name
    if not path.is_file():
        if named:
            raise LibraryError(f"{_VARIABLE} names {path}, which is not a file")
        _download(version, pinned, path)
    digest = sha256_file(path)
    if digest != pinned.sdist_sha256:
        raise LibraryError(
            f"{path} has SHA-256 {digest}, not {pinned.sdist_sha256} as pinned for "
            f"llama-cpp-python {version}; delete it or set {_VARIABLE}"
        )
    return path


def _download(version: str, pinned: Pin, target: Path) -> None:
    say(f"fetching the source of llama-cpp-python {version}, once, for its converter")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text(
            f"llama-cpp-python=={version} --hash=sha256:{pinned.sdist_sha256}\n", encoding="utf-8"
        )
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
        command += ["--no-binary", "llama-cpp-python", "--dest", folder, "-r", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        fetched = Path(folder) / target.name
        if done.returncode != 0 or not fetched.is_file():
            last = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise LibraryError(
                f"cannot fetch the source of llama-cpp-python {version}: {last}; "
                f"download it elsewhere and set {_VARIABLE} to the .tar.gz"
            )
        fetched.replace(target)


def _unpack(sdist: Path, target: Path) -> None:
    """Unpack the converter's parts beside the target, then move them there in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        with tarfile.open(sdist) as archive:
            for member in archive:
                inner = _inside_vendor(member.name)
                if inner is not None and member.isfile():
                    _write_member(archive, member, Path(folder) / "tree" / inner)
        tree = Path(folder) / "tree"
        if not (tree / _PARTS[0]).is_file():
            raise LibraryError(f"{sdist} does not hold vendor/llama.cpp/{_PARTS[0]}")
        try:
            tree.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise


def _inside_vendor(name: str) -> Path | None:
    parts = PurePosixPath(name).parts
    if len(parts) < 4 or parts[1:3] != ("vendor", "llama.cpp") or ".." in parts:
        return None
    return Path(*parts[3:]) if parts[3] in _PARTS else None


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    assert source is not None  # the caller passes regular files only
    with source, path.open("wb") as out:
        shutil.copyfileobj(source, out)
