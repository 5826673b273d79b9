/* A pod: namespaces that only descriptors hold, cgroups, a link, its memory's file system, one record. */
#define _GNU_SOURCE
#include "floor.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_namespace(const char *which)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/ns/%s", which);
	return must(open(path, O_RDONLY | O_CLOEXEC), path);
}

/* New ones, and back again: a single thread has no other to do it in. */
static void namespaces_make(struct pod *pod)
{
	static int home[3] = { -1 };
	static const char *const which[3] = { "net", "ipc", "uts" };
	for (int i = 0; home[2] < 1 && i < 3; i++)
		home[i] = open_namespace(which[i]);
	must(unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), "unshare");
	pod->net = open_namespace("net");
	pod->ipc = open_namespace("ipc");
	pod->uts = open_namespace("uts");
	pod->inside = netlink_open();
	for (int i = 0; i < 3; i++)
		must(setns(home[i], 0), "setns");
}

static void record(const char *name)
{
	char text[1024] = "{}";
	int file = must(open("record.new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), "record");
	must(write(file, text, sizeof text), "record");
	close(file);
	must(rename("record.new", name), "record");
}

void pod_make(struct pod *pod, int netlink, int number)
{
	char name[32];
	pod->number = number;
	snprintf(name, sizeof name, "floor-pod-%d", number);
	record(name);
	cgroups_make(name);
	namespaces_make(pod);
	must(mkdir("shm", 0755), "shm");
	must(mount("shm", "shm", "tmpfs", MS_NOEXEC | MS_NOSUID | MS_NODEV, "mode=1777,size=67108864"), "shm");
	char link[16];
	snprintf(link, sizeof link, "floorv%d", number);
	veth_make(netlink, BRIDGE, link, pod->net);
	network_configure(pod->inside, number);
}

/* The namespaces go with their last descriptors, and the link with its namespace: nobody waits for either. */
void pod_end(struct pod *pod)
{
	char name[32];
	snprintf(name, sizeof name, "floor-pod-%d", pod->number);
	close(pod->inside);
	close(pod->net);
	close(pod->ipc);
	close(pod->uts);
	cgroups_remove(name);
	must(umount2("shm", MNT_DETACH), "shm");
	must(rmdir("shm"), "shm");
	must(unlink(name), "record");
}
