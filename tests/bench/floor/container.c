/* A container: made until its first process only waits to be let go, started, entered, stopped. */
#define _GNU_SOURCE
#include "floor.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT 1

/* Descriptors of the two sides: what the child says and hears, and what the exec closes. */
struct wires {
	int said[2], go[2], closed[2], output[2];
};

static void enter_pod(const struct pod *pod)
{
	must(setns(pod->net, CLONE_NEWNET), "setns net");
	must(setns(pod->ipc, CLONE_NEWIPC), "setns ipc");
	must(setns(pod->uts, CLONE_NEWUTS), "setns uts");
}

static void become(const char *what) __attribute__((noreturn));
static void become(const char *what)
{
	char *const words[] = { INSIDE, (char *)what, NULL }, *const environment[] = { NULL };
	execve(INSIDE, words, environment);
	fail("execve");
}

/* The child's side, until it is the container's program. */
static void first_process(const struct container *container, const struct pod *pod, struct wires *wires)
{
	char byte;
	char folder[32];
	snprintf(folder, sizeof folder, "c%d", container->number);
	close(wires->closed[0]);
	must(dup2(wires->output[1], OUTPUT), "output");
	cgroups_join(container->cgroup);
	enter_pod(pod);
	rootfs_enter(folder);
	confine();
	must(write(wires->said[1], "r", 1), "ready");
	must(read(wires->go[0], &byte, 1), "go");
	become("until-sigterm");
}

static void folders_make(const char *folder)
{
	char path[64];
	must(mkdir(folder, 0700), folder);
	snprintf(path, sizeof path, "%s/upper", folder);
	must(mkdir(path, 0755), path);
	snprintf(path, sizeof path, "%s/work", folder);
	must(mkdir(path, 0700), path);
}

static int clone_into(const char *cgroup, int flags, int *pidfd)
{
	int born_into = cgroups_born_into(cgroup);
	struct clone_args arguments = {
		.flags = flags | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD,
	};
	if (born_into >= 0) {
		arguments.flags |= CLONE_INTO_CGROUP;
		arguments.cgroup = born_into;
	}
	int child = must(syscall(SYS_clone3, &arguments, sizeof arguments), "clone3");
	close(born_into);
	return child;
}

static struct wires wires;

long long container_create(struct container *container, const struct pod *pod, int number)
{
	char byte, folder[32];
	int *all[] = { wires.said, wires.go, wires.closed, wires.output };
	container->number = number;
	snprintf(container->cgroup, sizeof container->cgroup, "floor-pod-%d/c", number);
	snprintf(folder, sizeof folder, "c%d", number);
	for (int i = 0; i < 4; i++)
		must(pipe2(all[i], O_CLOEXEC), "pipe");
	long long began = now();
	folders_make(folder);
	cgroups_make(container->cgroup);
	cgroups_limit(container->cgroup);
	if (!clone_into(container->cgroup, CLONE_NEWNS | CLONE_NEWPID, &container->pidfd))
		first_process(container, pod, &wires);
	close(wires.closed[1]);
	close(wires.output[1]);
	if (must(read(wires.said[0], &byte, 1), "ready") != 1)
		fail("the container's first process has ended");
	return now() - began;
}

/* Until the exec has closed what is closed by it. That the program has its handler is awaited, too, and not timed. */
long long container_start(struct container *container)
{
	char byte;
	long long began = now();
	must(write(wires.go[1], "g", 1), "go");
	must(read(wires.closed[0], &byte, 1), "exec");
	long long taken = now() - began;
	if (must(read(wires.output[0], &byte, 1), "the program") != 1)
		fail("the container's program has ended");
	int *all[] = { wires.said, wires.go };
	for (int i = 0; i < 2; i++) {
		close(all[i][0]);
		close(all[i][1]);
	}
	close(wires.closed[0]);
	close(wires.output[0]);
	(void)container;
	return taken;
}

static void await_exit(int pidfd)
{
	siginfo_t info;
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	must(poll(&ended, 1, 10000), "poll");
	must(waitid(P_PIDFD, pidfd, &info, WEXITED), "waitid");
	if (info.si_code != CLD_EXITED || info.si_status != 0) {
		errno = ECHILD;
		fail("what ran inside");
	}
}

/* Children are born into the container's PID namespace: no second fork. */
long long container_exec(struct container *container)
{
	int pidfd;
	int home = must(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC), "pid namespace");
	long long began = now();
	must(setns(container->pidfd, CLONE_NEWPID), "setns pid");
	if (!clone_into(container->cgroup, 0, &pidfd)) {
		cgroups_join(container->cgroup);
		must(setns(container->pidfd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), "setns");
		confine();
		become("true");
	}
	await_exit(pidfd);
	long long taken = now() - began;
	must(setns(home, CLONE_NEWPID), "setns home");
	close(home);
	close(pidfd);
	return taken;
}

long long container_stop(struct container *container)
{
	char command[64];
	long long began = now();
	must(syscall(SYS_pidfd_send_signal, container->pidfd, SIGTERM, NULL, 0), "SIGTERM");
	await_exit(container->pidfd);
	cgroups_remove(container->cgroup);
	long long taken = now() - began;
	close(container->pidfd);
	snprintf(command, sizeof command, "rm -rf c%d", container->number);
	must(-system(command), command);
	return taken;
}

static void on_sigterm(int signal)
{
	(void)signal;
	_exit(0);
}

int run_inside(const char *what)
{
	if (strcmp(what, "true") == 0)
		return 0;
	signal(SIGTERM, on_sigterm);
	must(write(OUTPUT, "h", 1), "handler");
	for (;;)
		pause();
}
