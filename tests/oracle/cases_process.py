"""What a process is: users, powers, limits, scheduling, names, filters, namespaces."""

import os
import pathlib

from bundle import CAPABILITIES


def setting(pointer, value, *looks):
    """Sets one property; the probe looks at some more."""

    def change(bundle):
        bundle.set(pointer, value)
        bundle.look(*looks)

    return change


def settings(values: dict, *looks):
    def change(bundle):
        for pointer, value in values.items():
            bundle.set(pointer, value)
        bundle.look(*looks)

    return change


def sets(**names):
    return setting("/process/capabilities", names, *CALLS)


CALLS = [f"call:{name}" for name in ("setuid", "sethostname", "chroot", "mknod", "nice", "raw_socket", "mount", "unshare")]
FEW = ["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_KILL"]


def hosts_own() -> list[str]:
    """The capabilities of this host's bounding set that any program may be given."""
    names = (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
        "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
        "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
    line = next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    bounding = int(line.split()[1], 16)
    return [f"CAP_{name}" for bit, name in enumerate(names) if bounding >> bit & 1]


ALL = hosts_own()


def user(**fields):
    return setting("/process/user", {"uid": 0, "gid": 0, **fields}, "stat:/home/user")


def limit(kind, soft, hard):
    return {"type": f"RLIMIT_{kind}", "soft": soft, "hard": hard}


NOFILE = limit("NOFILE", 100, 200)


def scheduler(**fields):
    def change(bundle):
        bundle.set("/process/scheduler", fields)
        bundle.set("/process/capabilities", {name: ALL for name in ("bounding", "effective", "permitted")})

    return change


def priority(kind, number):
    return setting("/process/ioPriority", {"class": f"IOPRIO_CLASS_{kind}", "priority": number})


def sysctl(**values):
    names = {name.replace("__", "."): value for name, value in values.items()}
    looks = [f"file:/proc/sys/{name.replace('.', '/')}" for name in names]
    return setting("/linux/sysctl", names, *looks)


def profile(default, *rules, **more):
    """A filter, and what the probe's calls come to under it."""
    section = {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": list(rules)}
    section |= more
    calls = ("chmod", "getcwd", "mkdir", "socket", "socket_vsock", "personality_8", "personality_0", "keyctl", "ptrace", "bpf", "future")
    return setting("/linux/seccomp", section, *(f"call:{call}" for call in calls))


def rule(action, *names, **more):
    return {"names": list(names), "action": action, **more}


def argument(index, value, op, **more):
    return {"index": index, "value": value, "op": f"SCMP_CMP_{op}", **more}


ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
# What a runtime and a static program need between the filter and the end.
NEEDED = (
    "read write openat open close exit exit_group execve fstat newfstatat lstat stat readlink readlinkat statfs getdents64 "
    "fcntl mmap munmap mprotect brk prctl capget getresuid getresgid getgroups umask personality sched_getattr ioprio_get "
    "sched_getaffinity get_mempolicy prlimit64 getrlimit uname getcwd clock_gettime rt_sigprocmask rt_sigaction getpid getsid "
    "getpgrp keyctl fork clone clone3 wait4 unlink rseq set_robust_list set_tid_address arch_prctl getrandom futex capset setuid "
    "setgid setgroups setresuid setresgid chdir lseek ioctl mkdir rmdir socket chmod fchownat tgkill epoll_ctl epoll_pwait "
    "nanosleep sigaltstack gettid madvise sched_yield getppid pipe2 dup3 dup2 faccessat2 faccessat access execveat rt_sigreturn "
    "poll ppoll sendmsg recvmsg sendto close_range kill seccomp eventfd2 epoll_create1 fchdir pread64 getuid geteuid getgid getegid "
    "fstatfs statx openat2 dup pipe timer_create timer_settime timer_delete setitimer waitid pidfd_open pidfd_send_signal mremap "
    "mincore readv writev pwrite64 restart_syscall rt_sigtimedwait sysinfo getdents"
).split()


def joined(*kinds):
    def change(bundle):
        for kind in kinds:
            file = {"network": "net", "mount": "mnt"}.get(kind, kind)
            bundle.namespace(kind, f"/proc/{os.environ['ORACLE_HOLDER']}/ns/{file}")
        if "uts" in kinds:
            bundle.drop("/hostname")

    return change


def hosts(*kinds):
    def change(bundle):
        for kind in kinds:
            bundle.without_namespace(kind)
        # An mqueue or a sysfs is of its namespace.
        bundle.set("/linux/maskedPaths", [])

    return change


def time_offsets(**offsets):
    def change(bundle):
        bundle.namespace("time")
        bundle.set("/linux/timeOffsets", offsets)

    return change


def named(**names):
    return settings({f"/{name}": value for name, value in names.items()})


def user_namespace(bundle):
    bundle.namespace("user")
    for ids in ("uidMappings", "gidMappings"):
        bundle.set(f"/linux/{ids}", [{"containerID": 0, "hostID": 100000, "size": 65536}])
    for path in (bundle.root, *bundle.root.rglob("*")):
        if path.name != "probe":
            os.chown(path, 100000, 100000, follow_symlinks=False)
    for path in (bundle.directory, *bundle.directory.parents):
        if path.stat().st_mode & 0o5 != 0o5:
            path.chmod(path.stat().st_mode | 0o5)


def in_user_namespace(change):
    def both(bundle):
        user_namespace(bundle)
        change(bundle)

    return both


DIMENSIONS = {
    "user": {
        "a numeric one": user(uid=1000, gid=1000),
        "nobody the image knows": user(uid=4321, gid=8765),
        "a group alone": user(gid=50000),
        "with groups": user(uid=1000, gid=1000, additionalGids=[7, 50000]),
        "root with groups": user(additionalGids=[1, 2, 3]),
        "the same group twice": user(uid=1000, gid=1000, additionalGids=[7, 7]),
        "the largest": user(uid=4294967294, gid=4294967294),
    },
    "umask": {
        "027": user(umask=0o27),
        "none": user(umask=0),
        "0777": user(umask=0o777),
    },
    "capabilities": {
        "none": setting("/process/capabilities", {}, *CALLS),
        "all of the host's": sets(bounding=ALL, effective=ALL, permitted=ALL),
        "inheritable": sets(bounding=FEW, effective=FEW, permitted=FEW, inheritable=FEW),
        "ambient": sets(bounding=FEW, effective=FEW, permitted=FEW, inheritable=FEW, ambient=FEW),
        "bounding alone": sets(bounding=FEW),
        "permitted, not effective": sets(bounding=FEW, permitted=FEW),
        "in all five": sets(**dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), CAPABILITIES)),
        "ambient of a user": settings({
            "/process/capabilities": dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), FEW),
            "/process/user": {"uid": 1000, "gid": 1000},
        }, *CALLS),
        "ambient without inheritable": sets(bounding=FEW, effective=FEW, permitted=FEW, ambient=FEW),
        "an unknown name": sets(bounding=[*FEW, "CAP_FROM_THE_FUTURE"], effective=FEW, permitted=FEW),
        "absent": lambda bundle: bundle.drop("/process/capabilities"),
    },
    "privileges": {
        "may be gained": setting("/process/noNewPrivileges", False),
        "may be gained by a user": settings({"/process/noNewPrivileges": False, "/process/user": {"uid": 1000, "gid": 1000}}),
    },
    "rlimits": {
        "none": setting("/process/rlimits", []),
        "several": setting("/process/rlimits", [
            NOFILE, limit("CORE", 0, 0), limit("NPROC", 300, 400), limit("AS", 1 << 33, (1 << 64) - 1), limit("CPU", 10, 20),
            limit("FSIZE", 1 << 30, 1 << 31), limit("STACK", 1 << 20, 1 << 22), limit("DATA", 1 << 30, 1 << 30),
        ]),
        "the others": setting("/process/rlimits", [
            limit("RSS", 1 << 30, 1 << 30), limit("MEMLOCK", 1024, 2048), limit("LOCKS", 5, 6), limit("SIGPENDING", 7, 8),
            limit("MSGQUEUE", 9, 10), limit("NICE", 0, 0), limit("RTPRIO", 0, 0), limit("RTTIME", 1000, 1000),
        ]),
        "soft only zero": setting("/process/rlimits", [limit("NOFILE", 64, 200), limit("CORE", 0, 100)]),
    },
    "environment": {
        "of its own": setting("/process/env", ["PATH=/bin", "EMPTY=", "SPACE=a b", "HOME=/elsewhere", "data-1=x"]),
        "without HOME": setting("/process/env", ["PATH=/bin", "A=1"]),
        "without HOME, of a user": settings({"/process/env": ["PATH=/bin"], "/process/user": {"uid": 1000, "gid": 1000}}),
        "the same name twice": setting("/process/env", ["PATH=/bin", "HOME=/a", "A=1", "A=2"]),
        "none": setting("/process/env", []),
        "an empty HOME": setting("/process/env", ["PATH=/bin", "HOME="]),
        "long": setting("/process/env", ["PATH=/bin", "HOME=/", *(f"V{number}={'x' * 300}" for number in range(40))]),
    },
    "directory": {
        "one that is there": setting("/process/cwd", "/home/user", "stat:/home/user"),
        "one that is missing": setting("/process/cwd", "/not/yet", "stat:/not", "stat:/not/yet"),
        "one behind a link": setting("/process/cwd", "/link"),
        "with dots": setting("/process/cwd", "/home/../home/user"),
        "a mount": setting("/process/cwd", "/dev/shm"),
    },
    "oom": {
        "567": setting("/process/oomScoreAdj", 567),
        "1000": setting("/process/oomScoreAdj", 1000),
    },
    "personality": {
        "LINUX": setting("/linux/personality", {"domain": "LINUX"}),
        "LINUX32": setting("/linux/personality", {"domain": "LINUX32"}),
    },
    "scheduler": {
        "other, nice": scheduler(policy="SCHED_OTHER", nice=7),
        "other, not nice": scheduler(policy="SCHED_OTHER", nice=-3),
        "batch": scheduler(policy="SCHED_BATCH", nice=5),
        "idle": scheduler(policy="SCHED_IDLE"),
        "fifo": scheduler(policy="SCHED_FIFO", priority=3),
        "round robin": scheduler(policy="SCHED_RR", priority=9),
        "reset on fork": scheduler(policy="SCHED_FIFO", priority=1, flags=["SCHED_FLAG_RESET_ON_FORK"]),
        "deadline": scheduler(policy="SCHED_DEADLINE", flags=["SCHED_FLAG_RESET_ON_FORK"], runtime=1000000, deadline=3000000, period=3000000),
    },
    "priority": {
        "best effort": priority("BE", 5),
        "idle": priority("IDLE", 7),
        "best effort, the highest": priority("BE", 0),
    },
    "priority of the real time": {"4": priority("RT", 4)},
    "affinity": {
        "of an exec": setting("/process/execCPUAffinity", {"initial": "0", "final": "0-1"}),
    },
    "memory policy": {
        "bind": setting("/linux/memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0"}),
        "interleave": setting("/linux/memoryPolicy", {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
        "local": setting("/linux/memoryPolicy", {"mode": "MPOL_LOCAL"}),
        "default": setting("/linux/memoryPolicy", {"mode": "MPOL_DEFAULT"}),
        "preferred": setting("/linux/memoryPolicy", {"mode": "MPOL_PREFERRED", "nodes": "0"}),
    },
    "names": {
        "a host name": named(hostname="inside"),
        "both": named(hostname="inside", domainname="example.org"),
        "a domain name": named(domainname="example.org"),
    },
    "sysctl": {
        "of the network": sysctl(net__ipv4__ip_unprivileged_port_start="77"),
        "of IPC": sysctl(kernel__shm_rmid_forced="1", kernel__msgmax="4096"),
        "of message queues": sysctl(fs__mqueue__msg_max="20"),
        "with slashes": setting("/linux/sysctl", {"net/ipv4/ip_forward": "1"}, "file:/proc/sys/net/ipv4/ip_forward"),
    },
    "filter": {
        "an errno": profile(ALLOW, rule(ERRNO, "chmod", "mkdir", errnoRet=22)),
        "the default errno": profile(ALLOW, rule(ERRNO, "chmod")),
        "a kill": profile(ALLOW, rule("SCMP_ACT_KILL", "chmod"), rule("SCMP_ACT_KILL_PROCESS", "mkdir"), rule("SCMP_ACT_KILL_THREAD", "ptrace")),
        "a trap": profile(ALLOW, rule("SCMP_ACT_TRAP", "chmod")),
        "a trace": profile(ALLOW, rule("SCMP_ACT_TRACE", "chmod")),
        "a log": profile(ALLOW, rule("SCMP_ACT_LOG", "chmod")),
        "arguments": profile(
            ALLOW, rule(ERRNO, "personality", args=[argument(0, 8, "EQ")]), rule(ERRNO, "socket", args=[argument(0, 40, "EQ")], errnoRet=97)),
        "arguments of all kinds": profile(
            ALLOW, rule(ERRNO, "personality", args=[argument(0, 4, "GT"), argument(0, 9, "LT")]),
            rule(ERRNO, "socket", args=[argument(0, 3, "GE")]), rule(ERRNO, "mkdir", args=[argument(1, 0o700, "MASKED_EQ", valueTwo=0o700)])),
        "a list of what is allowed": profile(ERRNO, rule(ALLOW, *NEEDED), defaultErrnoRet=38),
        "a list, errno by default": profile(ERRNO, rule(ALLOW, *NEEDED)),
        "the flag LOG": profile(ALLOW, rule(ERRNO, "chmod"), flags=["SECCOMP_FILTER_FLAG_LOG"]),
        "the flag SPEC_ALLOW": profile(ALLOW, rule(ERRNO, "chmod"), flags=["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
        "the flag TSYNC": profile(ALLOW, rule(ERRNO, "chmod"), flags=["SECCOMP_FILTER_FLAG_TSYNC"]),
        "no flags": profile(ALLOW, rule(ERRNO, "chmod"), flags=[]),
        "a call that nobody knows": profile(ALLOW, rule(ERRNO, "chmod", "from_the_future")),
    },
    "filter without no_new_privs": {
        "an errno": lambda bundle: (
            profile(ALLOW, rule(ERRNO, "chmod"))(bundle), bundle.set("/process/noNewPrivileges", False)),
        "of a user": lambda bundle: (
            profile(ALLOW, rule(ERRNO, "chmod"))(bundle), bundle.set("/process/noNewPrivileges", False),
            bundle.set("/process/user", {"uid": 1000, "gid": 1000})),
    },
    "namespace": {
        "the host's cgroups": hosts("cgroup"),
        "the host's IPC": hosts("ipc"),
        "the host's UTS": hosts("uts"),
        "the host's PIDs": hosts("pid"),
        "the host's network": hosts("network"),
        "joined network": joined("network"),
        "joined IPC and UTS": joined("ipc", "uts"),
    },
    "namespaces": {
        "none but mount": hosts("cgroup", "ipc", "uts", "pid", "network"),
        "joined PIDs": joined("pid"),
        "all joined": joined("network", "ipc", "uts", "cgroup", "pid"),
        "an empty path": lambda bundle: bundle.at("/linux/namespaces").__getitem__(0).update(path=""),
        "time, no offsets": lambda bundle: bundle.namespace("time"),
        "time": time_offsets(monotonic={"secs": 7200, "nanosecs": 5}, boottime={"secs": 86400}),
        "time, backwards": time_offsets(boottime={"secs": -1000, "nanosecs": 7}),
        "joined time": joined("time"),
    },
    "user namespace": {
        "of its own": user_namespace,
        "a user": in_user_namespace(user(uid=1000, gid=1000, additionalGids=[7])),
        "with the host's network": in_user_namespace(lambda bundle: (hosts("network")(bundle), bundle.without_mount("/sys"))),
        "all capabilities": in_user_namespace(sets(bounding=ALL, effective=ALL, permitted=ALL)),
        "two ranges": in_user_namespace(lambda bundle: [
            bundle.set(f"/linux/{ids}", [{"containerID": 0, "hostID": 100000, "size": 1000}, {"containerID": 1000, "hostID": 200000, "size": 9}])
            for ids in ("uidMappings", "gidMappings")]),
        "time": in_user_namespace(time_offsets(monotonic={"secs": 7200})),
    },
}
