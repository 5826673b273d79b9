"""What no runtime should take: both refuse it, at the same step."""

from cases_process import setting, settings


def add(pointer, value):
    return lambda bundle: bundle.at(pointer).append(value)


def mount(**fields):
    return lambda bundle: bundle.spec["mounts"].append(fields)


DIMENSIONS = {
    "refused": {
        "no such program": setting("/process/args", ["/no/such/program"]),
        "a program that is a directory": setting("/process/args", ["/etc"]),
        "a program without permission": setting("/process/args", ["/etc/passwd"]),
        "no arguments": setting("/process/args", []),
        "no process": lambda bundle: bundle.drop("/process"),
        "no root": lambda bundle: bundle.drop("/root"),
        "a root that is missing": setting("/root/path", "nowhere"),
        "a relative directory": setting("/process/cwd", "tmp"),
        "a directory that is a file": setting("/process/cwd", "/etc/passwd"),
        "an unknown limit": setting("/process/rlimits", [{"type": "RLIMIT_SOULS", "soft": 1, "hard": 1}]),
        "a limit twice": setting("/process/rlimits", [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2),
        "a soft limit above the hard one": setting("/process/rlimits", [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1}]),
        "an unknown namespace": add("/linux/namespaces", {"type": "soul"}),
        "a namespace twice": add("/linux/namespaces", {"type": "pid"}),
        "a namespace of another kind": lambda bundle: bundle.namespace("network", "/proc/self/ns/uts"),
        "a namespace that is missing": lambda bundle: bundle.namespace("network", "/run/netns/nowhere"),
        "no mount namespace": lambda bundle: bundle.without_namespace("mount"),
        "a host name without its namespace": lambda bundle: (bundle.without_namespace("uts"), bundle.set("/hostname", "x")),
        "a domain name without its namespace": lambda bundle: (bundle.without_namespace("uts"), bundle.set("/domainname", "x")),
        "ids without a user namespace": setting("/linux/uidMappings", [{"containerID": 0, "hostID": 1000, "size": 10}]),
        "a user namespace without ids": lambda bundle: bundle.namespace("user"),
        "time offsets without the namespace": setting("/linux/timeOffsets", {"monotonic": {"secs": 1}}),
        "a time offset of an unknown clock": lambda bundle: (
            bundle.namespace("time"), bundle.set("/linux/timeOffsets", {"realtime": {"secs": 1}})),
        "a sysctl of the host": setting("/linux/sysctl", {"vm.overcommit_memory": "1"}),
        "a sysctl of the host's network": lambda bundle: (
            bundle.without_namespace("network"), bundle.set("/linux/sysctl", {"net.ipv4.ip_forward": "1"})),
        "a sysctl that leads upwards": setting("/linux/sysctl", {"net/../kernel/core_pattern": "x"}),
        "the host name as a sysctl": setting("/linux/sysctl", {"kernel.hostname": "x"}),
        "an unknown propagation": setting("/linux/rootfsPropagation", "sideways"),
        "a mount without a source": mount(destination="/x", type="bind", source="/no/such/source", options=["bind"]),
        "a mount of an unknown type": mount(destination="/x", type="soulfs", source="soul", options=[]),
        "an unknown option of tmpfs": mount(destination="/x", type="tmpfs", source="tmpfs", options=["soul=1"]),
        "an unknown option of a bind": mount(destination="/x", type="bind", source="/etc", options=["bind", "soul=1"]),
        "a mount over the root": mount(destination="/", type="tmpfs", source="tmpfs", options=[]),
        "a mount into /proc": mount(destination="/proc/sys", type="bind", source="/etc", options=["bind"]),
        "a relative destination": mount(destination="x", type="tmpfs", source="tmpfs", options=[]),
        "a device of an unknown kind": setting("/linux/devices", [{"type": "x", "path": "/dev/x", "major": 1, "minor": 1}]),
        "a device in place of a directory": setting("/linux/devices", [{"type": "c", "path": "/dev/shm", "major": 1, "minor": 1}]),
        "a relative device": setting("/linux/devices", [{"type": "c", "path": "dev/x", "major": 1, "minor": 1}]),
        "a device rule of an unknown kind": setting("/linux/resources/devices", [{"allow": True, "type": "x", "access": "rwm"}]),
        "a device rule of unknown access": setting("/linux/resources/devices", [{"allow": True, "type": "c", "access": "rwx"}]),
        "an AppArmor profile without AppArmor": setting("/process/apparmorProfile", "soul"),
        "an SELinux label without SELinux": setting("/process/selinuxLabel", "system_u:object_r:soul_t:s0"),
        "a mount label without SELinux": setting("/linux/mountLabel", "system_u:object_r:soul_t:s0"),
        "an unknown personality": setting("/linux/personality", {"domain": "WINDOWS"}),
        "a flag of a personality": setting("/linux/personality", {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
        "an unknown scheduler": setting("/process/scheduler", {"policy": "SCHED_SOUL"}),
        "a scheduler's unknown flag": setting("/process/scheduler", {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_SOUL"]}),
        "a priority of an idle scheduler": setting("/process/scheduler", {"policy": "SCHED_OTHER", "priority": 5}),
        "an unknown class of I/O": setting("/process/ioPriority", {"class": "IOPRIO_CLASS_SOUL", "priority": 1}),
        "a class of I/O without a priority": setting("/process/ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 9}),
        "an unknown memory policy": setting("/linux/memoryPolicy", {"mode": "MPOL_SOUL", "nodes": "0"}),
        "a memory policy without nodes": setting("/linux/memoryPolicy", {"mode": "MPOL_BIND", "nodes": ""}),
        "a filter's unknown action": setting("/linux/seccomp", {"defaultAction": "SCMP_ACT_SOUL"}),
        "a filter's unknown flag": setting("/linux/seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_SOUL"]}),
        "a filter's unknown architecture": setting("/linux/seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_SOUL"]}),
        "an oom score that is none": setting("/process/oomScoreAdj", 5000),
        "memory with less swap": setting("/linux/resources/memory", {"limit": 64 << 20, "swap": 32 << 20}),
        "an unknown CPU": setting("/linux/resources/cpu", {"cpus": "700"}),
        "a quota that is too small": setting("/linux/resources/cpu", {"quota": 5, "period": 100000}),
        "a cgroup that leads upwards": setting("/linux/cgroupsPath", "/../../x"),
        "cache allocation without resctrl": setting("/linux/intelRdt", {"closID": "soul", "l3CacheSchema": "L3:0=f"}),
        "a network device that is missing": setting("/linux/netDevices", {"soul0": {"name": "eth9"}}),
        "a hook without an absolute path": setting("/hooks", {"createRuntime": [{"path": "bin/true"}]}),
        "a hook with a time-out of zero": setting("/hooks", {"createRuntime": [{"path": "/bin/true", "timeout": 0}]}),
        "rdma that is none": setting("/linux/resources/rdma", {"soul": {}}),
        "a version that is none": setting("/ociVersion", "soul"),
        "a version of the future": setting("/ociVersion", "9.0.0"),
        "console size without a terminal": settings({"/process/consoleSize": {"height": 5, "width": 7}}),
    },
}
