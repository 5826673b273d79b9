/* The kernel's own cost of what a CRI runtime asks of it: the steps, one after another, and nothing else; no runtime, no
 * records but one, no protocol. Prints nanoseconds by operation as JSON.
 *
 *   floor --count N --scratch FOLDER    (as root, in a node of the tests; the folder on a disk, not on an overlay)
 */
#define _GNU_SOURCE
#include "floor.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	_exit(1);
}

int must(int result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

void put(const char *path, const char *text)
{
	int file = must(open(path, O_WRONLY | O_CLOEXEC), path);
	must(write(file, text, strlen(text)), path);
	close(file);
}

long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* The processor time of this program and of all children that it has reaped. */
static long long used(void)
{
	long long sum = 0;
	for (int i = 0; i < 2; i++) {
		struct rusage usage;
		getrusage(i ? RUSAGE_CHILDREN : RUSAGE_SELF, &usage);
		sum += (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL;
		sum += (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
	}
	return sum;
}

enum { POD, POD_END, CREATE, START, BOTH, EXEC, EXEC_TIME, STOP, OPERATIONS };
static const char *const names[OPERATIONS] = {
	"pod", "end of a pod", "create", "start", "create + start", "exec", "exec, processor time", "stop",
};

/* One pod with one container in which one program is executed. */
static void life(int number, int netlink, long long **samples)
{
	struct pod pod;
	struct container container;
	long long began = now();
	pod_make(&pod, netlink, number);
	samples[POD][number] = now() - began;
	samples[CREATE][number] = container_create(&container, &pod, number);
	samples[START][number] = container_start(&container);
	samples[BOTH][number] = samples[CREATE][number] + samples[START][number];
	long long before = used();
	samples[EXEC][number] = container_exec(&container);
	samples[EXEC_TIME][number] = used() - before;
	samples[STOP][number] = container_stop(&container);
	began = now();
	pod_end(&pod);
	samples[POD_END][number] = now() - began;
	/* What the kernel does later for a namespace is nobody's wait, and must not be the next pod's. */
	usleep(20000);
}

static void print(long long **samples, int count)
{
	for (int i = 0; i < OPERATIONS; i++) {
		printf("%s\"%s\": [", i ? ", " : "{", names[i]);
		for (int j = 0; j < count; j++)
			printf("%s%lld", j ? ", " : "", samples[i][j]);
		printf("]");
	}
	printf("}\n");
}

/* A mount namespace of its own, and a folder, which whoever gave the place removes. */
static void settle(const char *scratch)
{
	must(unshare(CLONE_NEWNS), "unshare");
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
	must(chdir(scratch), scratch);
	must(mkdir("floor", 0700), "mkdir floor");
	must(chdir("floor"), "floor");
	cgroups_find();
	rootfs_prepare();
}

int main(int words, char **word)
{
	if (words == 2)
		return run_inside(word[1]);
	if (words != 5 || strcmp(word[1], "--count") || strcmp(word[3], "--scratch")) {
		fprintf(stderr, "usage: floor --count N --scratch FOLDER\n");
		return 2;
	}
	int count = atoi(word[2]);
	long long *samples[OPERATIONS];
	for (int i = 0; i < OPERATIONS; i++)
		samples[i] = calloc(count, sizeof **samples);
	settle(word[4]);
	int netlink = netlink_open();
	bridge_make(netlink, BRIDGE);
	for (int i = 0; i < count; i++)
		life(i, netlink, samples);
	link_delete(netlink, BRIDGE);
	print(samples, count);
	return 0;
}
