/* What the parts of this program know of each other. Each part is one subject; whatever fails ends the program. */
#ifndef FLOOR_H
#define FLOOR_H

#include <stddef.h>

/* Says what failed, with errno, and ends. */
void fail(const char *what) __attribute__((noreturn));
/* Ends unless the result of a call is at least 0, which is given back. */
int must(int result, const char *what);
/* Writes a whole small file that is there. */
void put(const char *path, const char *text);
/* Monotonic nanoseconds. */
long long now(void);

/* cgroups.c: one cgroup of a name in each hierarchy of the host. */
void cgroups_find(void);
void cgroups_make(const char *name);
void cgroups_limit(const char *name);
/* Moves the calling process, but for v2, into whose cgroup, where there is one, children are to be born. */
int cgroups_born_into(const char *name);
void cgroups_join(const char *name);
void cgroups_remove(const char *name);
/* Shows the hierarchies below `folder`, as containers have them. */
void cgroups_bind(const char *folder);

/* network.c: links, by raw netlink. */
int netlink_open(void);
void bridge_make(int netlink, const char *name);
void link_delete(int netlink, const char *name);
/* A veth on the bridge whose other end, eth0, is in the namespace; up on this side. */
void veth_make(int netlink, const char *bridge, const char *name, int namespace);
/* By a socket opened inside: lo and eth0 up, an address, the default route. */
void network_configure(int inside, int number);

/* pod.c */
struct pod {
	int number, net, ipc, uts, inside;
};
void pod_make(struct pod *pod, int netlink, int number);
void pod_end(struct pod *pod);

/* filter.c: capabilities and a seccomp filter of the size of a usual profile. */
void confine(void);

/* rootfs.c: the container's mounts, seen from the child that becomes its first process. */
void rootfs_prepare(void);
void rootfs_enter(const char *folder);

/* container.c */
struct container {
	int number, pidfd, go;
	char cgroup[32];
};
long long container_create(struct container *container, const struct pod *pod, int number);
long long container_start(struct container *container);
long long container_exec(struct container *container);
long long container_stop(struct container *container);
/* What containers run: until SIGTERM, or not at all. */
int run_inside(const char *what);

#define BRIDGE "floor0"
/* Where the program finds itself inside of a container. */
#define INSIDE "/floor"

#endif
