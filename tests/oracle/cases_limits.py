"""The resources of a cgroup: what its files say afterwards, looked at from outside."""


def resources(**parts):
    def change(bundle):
        for name, value in parts.items():
            bundle.set(f"/linux/resources/{name}", value)

    return change


def block(**fields):
    return resources(blockIO=fields)


MIB = 1 << 20
DISK = {"major": 7, "minor": 0}

DIMENSIONS = {
    "cpu": {
        "shares": resources(cpu={"shares": 333}),
        "quota": resources(cpu={"quota": 70000, "period": 100000}),
        "quota alone": resources(cpu={"quota": 70000}),
        "period alone": resources(cpu={"period": 50000}),
        "no quota": resources(cpu={"quota": -1}),
        "burst": resources(cpu={"quota": 70000, "period": 100000, "burst": 30000}),
        "idle": resources(cpu={"idle": 1}),
        "sets": resources(cpu={"cpus": "0", "mems": "0"}),
        "all at once": resources(cpu={"shares": 2048, "quota": 150000, "period": 100000, "cpus": "0-1"}),
        "zeros": resources(cpu={"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}),
        "real time": resources(cpu={"realtimeRuntime": 0, "realtimePeriod": 1000000}),
    },
    "memory": {
        "limit": resources(memory={"limit": 64 * MIB}),
        "limit and reservation": resources(memory={"limit": 64 * MIB, "reservation": 32 * MIB}),
        "with swap": resources(memory={"limit": 64 * MIB, "swap": 128 * MIB}),
        "no more swap": resources(memory={"limit": 64 * MIB, "swap": 64 * MIB}),
        "any swap": resources(memory={"limit": 64 * MIB, "swap": -1}),
        "no limits": resources(memory={"limit": -1, "swap": -1}),
        "swappiness": resources(memory={"swappiness": 10}),
        "no OOM killer": resources(memory={"limit": 64 * MIB, "disableOOMKiller": True}),
        "an OOM killer": resources(memory={"disableOOMKiller": False}),
        "checked before the update": resources(memory={"limit": 64 * MIB, "checkBeforeUpdate": True}),
        "hierarchy": resources(memory={"limit": 64 * MIB, "useHierarchy": True}),
        "of the kernel": resources(memory={"limit": 64 * MIB, "kernel": 32 * MIB, "kernelTCP": 16 * MIB}),
    },
    "pids": {
        "55": resources(pids={"limit": 55}),
        "no limit": resources(pids={"limit": -1}),
        "none": resources(pids={"limit": 0}),
        "absent": resources(pids={}),
    },
    "block devices": {
        "a weight": block(weight=500),
        "a leaf weight": block(leafWeight=300),
        "a weight of one": block(weightDevice=[{**DISK, "weight": 400}]),
        "bytes read": block(throttleReadBpsDevice=[{**DISK, "rate": 1000000}]),
        "bytes written": block(throttleWriteBpsDevice=[{**DISK, "rate": 2000000}]),
        "operations": block(throttleReadIOPSDevice=[{**DISK, "rate": 300}], throttleWriteIOPSDevice=[{**DISK, "rate": 400}]),
        "two devices": block(throttleReadBpsDevice=[{**DISK, "rate": 1000}, {"major": 7, "minor": 1, "rate": 2000}]),
    },
    "huge pages": {
        "a limit": resources(hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}]),
    },
    "network class": {
        "a class": resources(network={"classID": 1048577}),
        "priorities": resources(network={"priorities": [{"name": "lo", "priority": 3}]}),
    },
    "rdma": {
        "a device": resources(rdma={"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}}),
    },
    "unified": {
        "a file": resources(unified={"memory.high": str(64 * MIB)}),
        "none": resources(unified={}),
    },
    "cgroup": {
        "a deep path": lambda bundle: bundle.set("/linux/cgroupsPath", bundle.at("/linux/cgroupsPath") + "/deep/er"),
        "a relative path": lambda bundle: bundle.set("/linux/cgroupsPath", "relative-" + bundle.name),
        "no path": lambda bundle: bundle.drop("/linux/cgroupsPath"),
        "no resources": lambda bundle: bundle.drop("/linux/resources"),
    },
}
