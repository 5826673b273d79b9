#define _GNU_SOURCE
#include "floor.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const char *const folders[] = { "dev", "etc", "proc", "sys" };
static const char *const files[] = { "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/termination-log" };
static const struct { const char *name; int major, minor; } devices[] = {
	{ "dev/null", 1, 3 }, { "dev/zero", 1, 5 },    { "dev/full", 1, 7 },
	{ "dev/tty", 5, 0 },  { "dev/random", 1, 8 }, { "dev/urandom", 1, 9 },
};
static const char *const masked[] = { "proc/kcore", "proc/keys", "proc/timer_list", "proc/interrupts" };
static const char *const masked_folders[] = { "proc/acpi", "proc/scsi", "sys/firmware", "proc/asound" };
static const char *const read_only[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };

/* One layer for all containers, with this very program in it. */
void rootfs_prepare(void)
{
	char path[64];
	must(mkdir("layer", 0755), "layer");
	/* Where each container has its own, in a mount namespace of its own. */
	must(mkdir("rootfs", 0755), "rootfs");
	for (size_t i = 0; i < COUNT(folders); i++) {
		snprintf(path, sizeof path, "layer/%s", folders[i]);
		must(mkdir(path, 0755), path);
	}
	for (size_t i = 0; i < COUNT(files); i++) {
		snprintf(path, sizeof path, "layer/%s", files[i]);
		close(must(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644), path));
	}
	struct stat self;
	int from = must(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "self");
	int to = must(open("layer" INSIDE, O_WRONLY | O_CREAT | O_CLOEXEC, 0755), "copy");
	must(fstat(from, &self), "self");
	for (off_t left = self.st_size; left > 0;)
		left -= must(sendfile(to, from, NULL, left), "copy");
	close(from);
	close(to);
}

static void devices_make(void)
{
	must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
	for (size_t i = 0; i < COUNT(devices); i++)
		must(mknod(devices[i].name, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)), devices[i].name);
	must(mkdir("dev/pts", 0755), "pts");
	must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"), "pts");
	must(mkdir("dev/mqueue", 0755), "mqueue");
	must(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "mqueue");
	must(mkdir("dev/shm", 0755), "shm");
	must(symlink("/proc/self/fd", "dev/fd"), "fd");
}

/* Some of them are not on every kernel. */
static void hide(void)
{
	for (size_t i = 0; i < COUNT(masked); i++)
		if (mount("dev/null", masked[i], NULL, MS_BIND, NULL) < 0 && errno != ENOENT)
			fail(masked[i]);
	for (size_t i = 0; i < COUNT(masked_folders); i++)
		if (mount("tmpfs", masked_folders[i], "tmpfs", MS_RDONLY, NULL) < 0 && errno != ENOENT)
			fail(masked_folders[i]);
	for (size_t i = 0; i < COUNT(read_only); i++) {
		if (mount(read_only[i], read_only[i], NULL, MS_BIND | MS_REC, NULL) < 0 && errno != ENOENT)
			fail(read_only[i]);
		mount(NULL, read_only[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL);
	}
}

static void mounts_make(int host)
{
	char source[64];
	must(mount("proc", "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "proc");
	devices_make();
	must(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "sys");
	must(mount("tmpfs", "sys/fs/cgroup", "tmpfs", 0, "mode=755"), "cgroup");
	cgroups_bind("sys/fs/cgroup");
	for (size_t i = 0; i < COUNT(files); i++) {
		snprintf(source, sizeof source, "/proc/self/fd/%d/layer/%s", host, files[i]);
		must(mount(source, files[i], NULL, MS_BIND, NULL), files[i]);
	}
	snprintf(source, sizeof source, "/proc/self/fd/%d/shm", host);
	must(mount(source, "dev/shm", NULL, MS_BIND, NULL), "dev/shm");
	hide();
}

/* An overlay of the layer and of folders of its own, and everything that a container sees on it; then nothing else. */
void rootfs_enter(const char *folder)
{
	char options[256];
	int host = must(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), "host");
	must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "slave");
	snprintf(options, sizeof options, "lowerdir=layer,upperdir=%s/upper,workdir=%s/work,volatile", folder, folder);
	must(mount("overlay", "rootfs", "overlay", 0, options), "overlay");
	must(chdir("rootfs"), "rootfs");
	mounts_make(host);
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(umount2(".", MNT_DETACH), "the old root");
	must(chdir("/"), "/");
}
