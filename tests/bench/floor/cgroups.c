#define _GNU_SOURCE
#include "floor.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define HIERARCHIES 16
#define LONGEST 256

static char points[HIERARCHIES][LONGEST];
static int count, pure_v2, v2 = -1;

/* The mount points, out of mountinfo: after the dash there is the type. */
void cgroups_find(void)
{
	char line[4096], point[LONGEST], type[32];
	FILE *file = fopen("/proc/self/mountinfo", "re");
	if (!file)
		fail("mountinfo");
	while (fgets(line, sizeof line, file)) {
		char *dash = strstr(line, " - ");
		if (!dash || sscanf(dash, " - %31s", type) != 1 || strncmp(type, "cgroup", 6))
			continue;
		if (sscanf(line, "%*s %*s %*s %*s %255s", point) != 1 || count == HIERARCHIES)
			continue;
		if (!strcmp(type, "cgroup2"))
			v2 = count;
		strcpy(points[count++], point);
		pure_v2 |= !strcmp(type, "cgroup2") && !strcmp(point, "/sys/fs/cgroup");
	}
	fclose(file);
}

static const char *below(int i, const char *name, const char *file)
{
	static char path[3 * LONGEST];
	snprintf(path, sizeof path, "%s/%s/%s", points[i], name, file);
	return path;
}

/* A new v1 cpuset is empty, and takes nobody: it gets what its parent has. */
static void inherit(int i, const char *name, const char *file)
{
	char text[LONGEST] = "";
	FILE *parent = fopen(below(i, ".", file), "re");
	if (!parent)
		return;
	if (fgets(text, sizeof text, parent))
		put(below(i, name, file), text);
	fclose(parent);
}

void cgroups_make(const char *name)
{
	for (int i = 0; i < count; i++) {
		must(mkdir(below(i, name, ""), 0755), below(i, name, ""));
		if (pure_v2)
			continue;
		inherit(i, name, "cpuset.cpus");
		inherit(i, name, "cpuset.mems");
	}
}

static void put_where_there_is(const char *name, const char *file, const char *text)
{
	for (int i = 0; i < count; i++)
		if (!access(below(i, name, file), W_OK))
			put(below(i, name, file), text);
}

/* The limits of a usual container. */
void cgroups_limit(const char *name)
{
	if (pure_v2) {
		put_where_there_is(name, "memory.max", "268435456");
		put_where_there_is(name, "cpu.max", "100000 100000");
		put_where_there_is(name, "cpu.weight", "39");
		return;
	}
	put_where_there_is(name, "memory.limit_in_bytes", "268435456");
	put_where_there_is(name, "cpu.cfs_period_us", "100000");
	put_where_there_is(name, "cpu.cfs_quota_us", "100000");
	put_where_there_is(name, "cpu.shares", "1024");
}

int cgroups_born_into(const char *name)
{
	return v2 < 0 ? -1 : must(open(below(v2, name, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "cgroup v2");
}

/* By `tasks`: a pid in cgroup.procs waits for a grace period of the kernel. */
void cgroups_join(const char *name)
{
	for (int i = 0; i < count; i++)
		if (i != v2)
			put(below(i, name, "tasks"), "0");
}

/* What ended a moment ago may hold one for a little. */
void cgroups_remove(const char *name)
{
	for (int i = 0; i < count; i++) {
		while (rmdir(below(i, name, "")) < 0) {
			if (errno != EBUSY)
				fail(below(i, name, ""));
			usleep(50);
		}
	}
}

void cgroups_bind(const char *folder)
{
	char path[2 * LONGEST];
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/%d", folder, i);
		must(mkdir(path, 0755), path);
		must(mount(points[i], path, NULL, MS_BIND, NULL), path);
	}
}
