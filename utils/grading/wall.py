"""Walls around code that nobody has read: files, network, other processes and system calls out of its reach.

Three layers, each told by trying it, never by a version: bubblewrap (own name spaces, a view of few files), Landlock
(rules of the kernel on files, signals and ports), seccomp (system calls that no homework needs fail). A wall holds
when seccomp works and one of the other two does.
"""

import contextlib
import ctypes
import errno
import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from utils.grading import Stop

ROOT = Path(__file__).resolve().parent.parent.parent
LIBC = ctypes.CDLL(None, use_errno=True)
READABLE = ROOT / "utils", ROOT / "data"  # of the course, what a student's code may import and load
SYSTEM = "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/localtime", "/etc/ssl"
NAMES = "bubblewrap", "landlock", "none"


def python_folders():
    """Where this Python and its packages stand."""
    folders = {sys.prefix, sys.base_prefix, *(path for path in sys.path if "-packages" in path)}
    return sorted({os.path.realpath(folder) for folder in folders} | {sys.prefix})


def choose(name=None):
    """The wall to use: the one of this name, or the first that holds here; Stop where none does.

    "none" is only taken when asked for: it is no wall.
    """
    if name not in (None, *NAMES):
        raise Stop(f"There is no wall {name!r}; there are {', '.join(NAMES)}.")
    if name == "none":
        return name
    lacks = {}
    for layer in (name,) if name else ("bubblewrap", "landlock"):
        lacks[layer] = lacking(layer)
        if not lacks[layer]:
            return layer
    why = "; ".join(f"{layer}: {reason}" for layer, reason in lacks.items())
    raise Stop(
        f"No wall holds on this machine ({why}), so students' code would run with your rights; install bubblewrap "
        "and libseccomp on Linux, or add --unsafe if the whole machine may be lost."
    )


def layers(wall):
    """What a wall is made of, in words for reports."""
    if wall == "none":
        return "no wall (--unsafe)"
    parts = ["bubblewrap"] * (wall == "bubblewrap") + ["Landlock"] * (landlock_version() >= 3)
    return " + ".join([*parts, "seccomp", "limits"])


@functools.cache
def lacking(layer):
    """Why a wall does not hold here, in a few words; "" if it does. It is built and tried."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    if seccomp() is None:
        return "the library libseccomp is missing"
    if layer == "landlock":
        return "" if landlock_version() >= 3 else "this kernel has no Landlock of version 3"
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed"
    tried = subprocess.run(
        [*bubblewrap(box()), sys.executable, "-c", "print(6 * 7)"],
        capture_output=True,
        encoding="utf-8",
        env={},
    )
    return "" if tried.stdout == "42\n" else (tried.stderr.strip().splitlines() or ["it does not start"])[-1]


# ---- bubblewrap ----


def box():
    """The folder that a page may write to: /tmp, or another one where the course or its Python lie in /tmp."""
    below = [path for path in [*python_folders(), *map(str, READABLE)] if path.startswith("/tmp/")]
    return "/box" if below else "/tmp"


def bubblewrap(box, room=64_000_000):
    """The beginning of a command line: the rest runs in name spaces of its own, `box` its only writable folder.

    It sees Python, its packages, the system's libraries, utils/ and data/, all of them read-only; no network, no
    other process. room: bytes that fit into `box`, which is in memory and empty.
    """
    line = [
        "bwrap",
        "--unshare-all",
        "--unshare-user",
        "--uid",
        "65534",
        "--gid",
        "65534",
        "--cap-drop",
        "ALL",
    ]
    line += [
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "homework",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
    ]
    line += ["--size", str(room), "--tmpfs", box]
    for path in SYSTEM:
        if os.path.islink(path):
            line += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            line += ["--ro-bind", path, path]
    for path in [*python_folders(), *map(str, READABLE)]:
        line += ["--ro-bind", path, path]
    return [*line, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", box]


# ---- Landlock: a process gives up files, ports and signals, and so do its children ----

READ = 0b1101  # execute, read a file, read a folder
FILES_ONLY = 0b1100000000000111  # of all rights, those that a single file can have


def landlock_version():
    """The kernel's version of Landlock, 0 where there is none."""
    return max(0, LIBC.syscall(444, None, ctypes.c_size_t(0), 1))


def lock_files(readable, writable):
    """From now on this process opens only what lies below these paths, and sends no signal out of its own circle.

    Source: kernel documentation, userspace-api/landlock; the numbers of rights grow with its version.
    """
    version = landlock_version()
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    attributes = (ctypes.c_uint64 * 3)(rights, 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = checked(LIBC.syscall(444, attributes, ctypes.c_size_t(size), 0))
    for path, allowed in [(path, READ) for path in readable] + [(path, rights) for path in writable]:
        if os.path.exists(path):
            allow(rules, path, allowed if os.path.isdir(path) else allowed & FILES_ONLY & rights)
    give_up_privileges()
    checked(LIBC.syscall(446, rules, 0))
    os.close(rules)


class PathBeneath(ctypes.Structure):
    """struct landlock_path_beneath_attr"""

    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def allow(rules, path, rights):
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        checked(LIBC.syscall(445, rules, 1, ctypes.byref(PathBeneath(rights, folder)), 0))
    finally:
        os.close(folder)


def checked(result):
    """The result of a call of the C library, or the OSError that it stands for."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(option, value):
    checked(LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def give_up_privileges():
    prctl(38, 1)  # PR_SET_NO_NEW_PRIVS


def hide_memory():
    """Nobody of the same user reads or writes this process's memory, nor traces it."""
    prctl(4, 0)  # PR_SET_DUMPABLE


def die_with_parent():
    prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


# ---- seccomp: system calls that fail ----

FORBIDDEN = """
    fork vfork execve execveat
    kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal pidfd_getfd
    ptrace process_vm_readv process_vm_writev process_madvise kcmp
    setpriority ioprio_set sched_setparam sched_setscheduler sched_setattr sched_setaffinity setsid setpgid
    migrate_pages move_pages
    socket bind connect listen accept accept4 io_uring_setup io_uring_enter io_uring_register
    shmget shmat shmctl msgget msgsnd msgrcv msgctl semget semop semctl semtimedop mq_open memfd_create memfd_secret
    mount umount umount2 pivot_root chroot unshare setns move_mount open_tree fsopen fsmount fsconfig fspick
    mount_setattr mknod mknodat swapon swapoff reboot acct quotactl quotactl_fd sethostname setdomainname
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat
    setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
    bpf perf_event_open userfaultfd keyctl add_key request_key init_module finit_module delete_module
    kexec_load kexec_file_load personality lookup_dcookie name_to_handle_at open_by_handle_at fanotify_init
    clock_settime settimeofday adjtimex clock_adjtime vhangup syslog iopl ioperm
""".split()
NOT_EQUAL, EQUAL, MASKED_EQUAL = 1, 4, 7
CLONE_THREAD = 0x10000
ONLY_SOMETIMES = [  # (call, number of the argument, comparison, with what): forbidden when it holds
    ("clone", 0, MASKED_EQUAL, (CLONE_THREAD, 0)),  # a process, where a thread may pass
    ("prlimit64", 0, NOT_EQUAL, (0, 0)),  # limits of others
    ("prctl", 0, EQUAL, (1, 0)),  # to outlive one's parent
    (
        "socketpair",
        1,
        MASKED_EQUAL,
        (0xF, 2),
    ),  # of datagrams, for these reach other sockets without a connection
    ("fcntl", 1, EQUAL, (8, 0)),  # F_SETOWN, F_SETSIG, F_SETOWN_EX: signals by way of files
    ("fcntl", 1, EQUAL, (10, 0)),
    ("fcntl", 1, EQUAL, (15, 0)),
    ("ioctl", 1, EQUAL, (0x8901, 0)),  # FIOSETOWN, SIOCSPGRP: the same
    ("ioctl", 1, EQUAL, (0x8902, 0)),
    ("ioctl", 1, EQUAL, (0x5412, 0)),  # TIOCSTI: typing at a terminal
]


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp of libseccomp"""

    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


@functools.cache
def seccomp():
    """libseccomp, or None where it is missing."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(Comparison),
    ]
    return library


def lock_calls():
    """From now on this process starts no other one, signals nobody, opens no connection: such calls fail."""
    library = seccomp()
    rules = library.seccomp_init(0x7FFF0000)  # what is not named is allowed
    fails = lambda error: 0x00050000 | error

    def add(call, action, *comparisons):
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # others are unknown to this processor
            array = (Comparison * len(comparisons))(*comparisons)
            result = library.seccomp_rule_add_array(rules, action, number, len(comparisons), array)
            if result:
                raise OSError(-result, f"seccomp refuses a rule for {call}")

    for call in FORBIDDEN:
        add(call, fails(errno.EPERM))
    for call, argument, operator, (first, second) in ONLY_SOMETIMES:
        add(call, fails(errno.EPERM), Comparison(argument, operator, first, second))
    add("clone3", fails(errno.ENOSYS))  # its flags lie in memory, out of sight: C libraries then take clone
    give_up_privileges()
    result = library.seccomp_load(rules)
    library.seccomp_release(rules)
    if result:
        raise OSError(-result, "seccomp takes no rules")


# ---- limits ----


def in_use():
    """Bytes of address space that this process takes up."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def lock_amounts(seconds, memory, disk):
    """Limits on processor seconds, bytes of address space, bytes of one file, open files."""
    for limit, amount in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_FSIZE, disk),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        with contextlib.suppress(ValueError):  # lower already
            resource.setrlimit(limit, (amount, amount))
