"""Run one untrusted program: started as a file, in a process of its own, never imported.

Reads the program from standard input, gives up every right it can, then runs it. What holds it:

    namespaces   no network, no other process in sight, a file system made of read-only system
                 folders and one small scratch folder in memory, an unprivileged user
    rlimits      CPU, memory, file size, processes and open files (both mechanisms)

Says `ready` on the report descriptor once it is caged; the program's own last line writes the rest.
Standard library only: it runs under `python -I -S`. Linux only for namespaces.

Source: namespaces(7), pivot_root(2), capabilities(7), unshare(2).
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

NEW_MOUNTS, NEW_HOST, NEW_IPC = 0x00020000, 0x04000000, 0x08000000
NEW_USER, NEW_PIDS, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SUID, NO_DEVICES, REMOUNT = 1, 2, 4, 32
BIND, RECURSIVE, PRIVATE, DETACH = 4096, 16384, 1 << 18, 2
PARENT_DEATH_SIGNAL, DROP_BOUNDING, NO_NEW_PRIVILEGES = 1, 24, 38
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
INNER_USER = 1000
ROOT_MAPPED_USERS = 200_000  # real root becomes one of these, each jail another
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/bin")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def main() -> int:
    """Cage this process as the first argument says, and run what standard input holds."""
    settings = json.loads(sys.argv[1])
    program = sys.stdin.buffer.read()
    report: int = settings["report"]
    code = compile(program, "<program>", "exec", dont_inherit=True)
    if settings["mechanism"] == "namespaces":
        user = isolate()
        build_root(Path(settings["root"]), settings["scratch_bytes"], settings["read_only"])
        return run_as_only_process(lambda: run(code, report, settings["limits"], user))
    die_with_parent()
    return run(code, report, settings["limits"], None)


def run(code: CodeType, report: int, limits: dict[str, int], user: int | None) -> int:
    """Give up rights, say so, and execute."""
    for name, value in limits.items():
        grace = 1 if name == "RLIMIT_CPU" else 0  # the first limit is a signal, the second kills
        resource.setrlimit(getattr(resource, name), (value, value + grace))
    if user is not None:
        drop_rights(user)
    os.write(report, b"ready\n")
    sys.argv = ["program"]
    exec(code, {"__name__": "__main__"})  # noqa: S102  # running it is this file's purpose
    return 0


def isolate() -> int:
    """Enter new namespaces; return the user to become, -1 to stay the one mapped already."""
    wanted = NEW_MOUNTS | NEW_HOST | NEW_IPC | NEW_PIDS | NEW_NETWORK
    if os.geteuid() == 0:
        call("unshare", wanted)
        return ROOT_MAPPED_USERS + os.getpid()
    user, group = os.geteuid(), os.getegid()
    call("unshare", wanted | NEW_USER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{INNER_USER} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{INNER_USER} {group} 1")
    return -1


def build_root(root: Path, scratch_bytes: int, read_only: list[str]) -> None:
    """Make a file system of read-only folders and a scratch folder in memory, and enter it."""
    mount("none", "/", None, RECURSIVE | PRIVATE)
    mount("tmpfs", str(root), "tmpfs", NO_SUID | NO_DEVICES, f"size={scratch_bytes},mode=755")
    for folder in (*SYSTEM_FOLDERS, *read_only):
        show(root, Path(folder))
    for device in DEVICES:
        target = root / device.lstrip("/")
        target.parent.mkdir(exist_ok=True)
        target.touch()
        mount(device, str(target), None, BIND)
    scratch = root / "tmp"
    scratch.mkdir()
    scratch.chmod(0o777)
    old = root / "old"
    old.mkdir()
    os.chdir(root)
    call("syscall", PIVOT_ROOT[platform.machine()], b".", b"old")
    os.chdir("/tmp")  # noqa: S108  # the jail's own
    call("umount2", b"/old", DETACH)
    Path("/old").rmdir()
    mount("none", "/", None, REMOUNT | BIND | NO_SUID | NO_DEVICES)


def show(root: Path, folder: Path) -> None:
    """Make a folder of the system visible, read-only; keep links links."""
    target = root / str(folder).lstrip("/")
    if folder.is_symlink():
        target.symlink_to(folder.readlink())
    elif folder.is_dir() and not target.exists():
        target.mkdir(parents=True)
        mount(str(folder), str(target), None, BIND | RECURSIVE)
        mount("none", str(target), None, REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEVICES)


def run_as_only_process(work: Callable[[], int]) -> int:
    """Run `work` below a first process whose end takes every other one with it."""
    die_with_parent()
    first = os.fork()
    if first == 0:
        die_with_parent()
        worker = os.fork()
        if worker == 0:
            return work()
        os._exit(wait_for(worker))
    os._exit(wait_for(first))


def die_with_parent() -> None:
    """Leave no program behind when the evaluator is killed. Lost in a fork, so asked for anew."""
    if sys.platform == "linux":
        call("prctl", PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def wait_for(process: int) -> int:
    """Wait for one child among orphans; return its status as a shell would."""
    while True:
        ended, status = os.wait()
        if ended == process:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def drop_rights(user: int) -> None:
    """Become `user` where that is needed, and keep no capability for oneself or one's children."""
    if user >= 0:
        for capability in range(64):
            libc.prctl(DROP_BOUNDING, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    call("capset", header, (ctypes.c_uint32 * 6)())
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Attach one file system, folder or device."""
    kind_bytes = kind.encode() if kind else None
    call("mount", source.encode(), target.encode(), kind_bytes, flags, data.encode())


def call(function: str, *arguments: object) -> None:
    """Call the C library.

    Raises:
        OSError: it refused; names the function.
    """
    if getattr(libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


if __name__ == "__main__":
    libc = ctypes.CDLL(None, use_errno=True)
    raise SystemExit(main())
