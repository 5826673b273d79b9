// What a hostile container does, by verb. Each attempt is one line: "got: WHAT" when it went through, "refused: WHAT (why)".
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int tell(int succeeded, const char *what, const char *detail) {
  if (succeeded) printf("got: %s %s\n", what, detail);
  else printf("refused: %s %s (%s)\n", what, detail, strerror(errno));
  fflush(stdout);
  return succeeded;
}

static int try_write(const char *path, const char *text) {
  int file = open(path, O_WRONLY | O_CLOEXEC);
  int done = file >= 0 && write(file, text, strlen(text)) >= 0;
  if (file >= 0) close(file);
  return tell(done, "write", path);
}

// Everything that changes the runtime's program, or what it may do, through the link that a process has to it. The
// link is held first: the process may be on its way to another program.
static void change_program(const char *pid) {
  char path[64], name[256] = "";
  struct stat now;
  snprintf(path, sizeof path, "/proc/%s/exe", pid);
  int held = open(path, O_PATH | O_CLOEXEC);
  if (held < 0) {
    if (errno != ENOENT) tell(0, "look at", path);
    return;
  }
  snprintf(path, sizeof path, "/proc/self/fd/%d", held);
  if (readlink(path, name, sizeof name - 1) < 0 || !strstr(name, "corten-shim") || fstat(held, &now) < 0) {
    close(held);
    return;
  }
  printf("seen: %s of %s\n", name, pid);
  tell(chmod(path, now.st_mode & 07777) == 0, "chmod", name);
  tell(chown(path, now.st_uid, now.st_gid) == 0, "chown", name);
  tell(utimensat(AT_FDCWD, path, NULL, 0) == 0, "touch", name);
  tell(open(path, O_WRONLY | O_CLOEXEC) >= 0, "write to", name);
  // Clearing read-only of the mount that it is on, as one may who is root of the user namespace.
  struct { unsigned long long set, clear, propagation, userns; } attributes = {0, 1, 0, 0};
  tell(syscall(SYS_mount_setattr, held, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0, "mount_setattr", name);
  int tree = syscall(SYS_open_tree, held, "", AT_EMPTY_PATH | 1 /* OPEN_TREE_CLONE */);
  if (tell(tree >= 0, "clone the mount of", name)) close(tree);
  close(held);
}

// What a process of somebody else's shows: its program, root, directory, memory and descriptors.
static void look_into(const char *pid) {
  static const char *const names[] = {"exe", "root", "cwd", "mem", "environ", "fd/0"};
  char path[64];
  for (size_t number = 0; number < sizeof names / sizeof *names; number++) {
    snprintf(path, sizeof path, "/proc/%s/%s", pid, names[number]);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    tell(file >= 0, "open", path);
    if (file >= 0) close(file);
  }
  long traced = ptrace(PTRACE_SEIZE, atoi(pid), NULL, NULL);
  tell(traced == 0, "trace", pid);
}

// The programs of all that it sees, until /signals/end is there.
static void change_programs(void) {
  puts("ready");
  fflush(stdout);
  while (access("/signals/end", F_OK) < 0) {
    DIR *all = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(all)) != NULL;)
      if (atoi(entry->d_name) > 1) change_program(entry->d_name);
    closedir(all);
  }
  puts("over");
}

static int same_file(const char *path, const struct stat *as) {
  struct stat found;
  return stat(path, &found) < 0 || (found.st_dev == as->st_dev && found.st_ino == as->st_ino);
}

// What a process that has just been born in the container has of the host's: a root that is not the container's, a
// working directory or a descriptor that is no stream.
static void look_at_newborn(const char *pid, const struct stat *root) {
  char path[600], target[256];
  snprintf(path, sizeof path, "/proc/%s/root/probe", pid);
  struct stat probe;
  stat("/probe", &probe);
  if (!same_file(path, &probe)) tell(1, "root", path);
  snprintf(path, sizeof path, "/proc/%s/root", pid);
  if (!same_file(path, root)) tell(1, "root", path);
  snprintf(path, sizeof path, "/proc/%s/fd", pid);
  DIR *all = opendir(path);
  if (all == NULL) return;
  puts("seen: descriptors");
  for (struct dirent *entry; (entry = readdir(all)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, entry->d_name);
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) continue;
    target[length] = 0;
    int stream = !strncmp(target, "pipe:", 5) || !strncmp(target, "socket:", 7) || !strcmp(target, "/dev/null") ||
                 !strncmp(target, "/dev/pts", 8) || strstr(target, "/proc") == target || !strcmp(target, "anon_inode:[pidfd]");
    struct stat here;
    int inside = *target == '/' && stat(target, &here) == 0 && same_file(path, &here);
    if (!stream && !inside) tell(1, path, target);
  }
  closedir(all);
}

// Until /signals/end is there. A process is looked at as often as it is seen.
static void newborns(void) {
  struct stat root;
  stat("/", &root);
  int first = getpid();
  puts("ready");
  fflush(stdout);
  while (access("/signals/end", F_OK) < 0) {
    DIR *all = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(all)) != NULL;)
      if (atoi(entry->d_name) > first) look_at_newborn(entry->d_name, &root);
    closedir(all);
  }
  puts("over");
}

// The capabilities that a process may have, as anybody may read them; 0 where it has gone.
static unsigned long long permitted(const char *pid) {
  char path[64], line[256];
  unsigned long long set = 0;
  snprintf(path, sizeof path, "/proc/%s/status", pid);
  FILE *status = fopen(path, "r");
  while (status != NULL && fgets(line, sizeof line, status)) sscanf(line, "CapPrm: %llx", &set);
  if (status != NULL) fclose(status);
  return set;
}

// Traces who has more power than itself, as those have who are still on their way into a container. Once it is traced
// it is stopped, and looked at again.
static void trace_newborn(const char *pid, unsigned long long own) {
  if (!(permitted(pid) & ~own)) return;
  int who = atoi(pid), traced = ptrace(PTRACE_SEIZE, who, NULL, NULL) == 0;
  if (!traced) {
    if (errno != ESRCH) tell(0, "trace", pid);
    return;
  }
  ptrace(PTRACE_INTERRUPT, who, NULL, NULL);
  waitpid(who, NULL, __WALL);
  if (permitted(pid) & ~own) tell(1, "trace a maker,", pid);
  ptrace(PTRACE_DETACH, who, NULL, NULL);
}

// Until /signals/end is there.
static void trace_newborns(void) {
  char own[16];
  snprintf(own, sizeof own, "%d", getpid());
  unsigned long long set = permitted(own);
  puts("ready");
  fflush(stdout);
  while (access("/signals/end", F_OK) < 0) {
    DIR *all = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(all)) != NULL;)
      if (atoi(entry->d_name) > 1) trace_newborn(entry->d_name, set);
    closedir(all);
  }
  puts("over");
}

// Exchanges two names for as long as it runs.
static void swap(const char *one, const char *other) {
  puts("ready");
  fflush(stdout);
  for (;;) syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2);
}

static void key(const char *verb, const char *name) {
  int session = -3;
  if (!strcmp(verb, "add")) {
    long made = syscall(SYS_add_key, "user", name, "secret", 6, session);
    syscall(SYS_keyctl, 5, made, 0x3f3f3f3f);
    tell(made >= 0, "add key", name);
    pause();
  }
  tell(syscall(SYS_keyctl, 10, session, "user", name, 0) >= 0, "find key", name);
  tell(syscall(SYS_request_key, "user", name, NULL, 0) >= 0, "request key", name);
}

// Types a command into the terminal that it is on, for who reads it afterwards.
static void type_into(const char *terminal, const char *text) {
  int file = open(terminal, O_RDWR | O_NOCTTY);
  if (file < 0) {
    tell(0, "open", terminal);
    return;
  }
  for (; *text; text++)
    if (ioctl(file, TIOCSTI, text) < 0) {
      tell(0, "type into", terminal);
      return;
    }
  tell(1, "type into", terminal);
}

static void in_new_namespaces(int flags, const char *what, void (*then)(void)) {
  pid_t child = fork();
  if (child == 0) {
    if (unshare(flags) < 0) tell(0, "unshare", what);
    else then();
    _exit(0);
  }
  waitpid(child, NULL, 0);
}

static void mount_proc(void) {
  pid_t child = fork();
  if (child == 0) {
    mkdir("/tmp/proc", 0755);
    int mounted = mount("proc", "/tmp/proc", "proc", 0, NULL) == 0;
    tell(0, "tried", "a proc of its own");
    if (tell(mounted, "mount", "proc")) try_write("/tmp/proc/sys/kernel/core_pattern", "|/escaped");
    _exit(0);
  }
  waitpid(child, NULL, 0);
}

// Each hierarchy that it is in, mounted anew: only its root has a release_agent.
static void mount_cgroups(void) {
  char line[512], names[256];
  FILE *all = fopen("/proc/self/cgroup", "r");
  mkdir("/tmp/cgroup", 0755);
  while (all != NULL && fgets(line, sizeof line, all)) {
    if (sscanf(line, "%*d:%255[^:]:", names) != 1) continue;
    int mounted = mount("cgroup", "/tmp/cgroup", "cgroup", 0, names) == 0;
    if (!mounted) {
      tell(0, "mount cgroup", names);
      continue;
    }
    printf("mounted: %s\n", names);
    try_write("/tmp/cgroup/release_agent", "/escaped");
    umount2("/tmp/cgroup", MNT_DETACH);
  }
}

// A file handle of the root of the file system that a path is on: opened by number, not by a path.
static void by_handle(const char *path) {
  struct { struct file_handle head; unsigned char bytes[64]; } handle = {.head.handle_bytes = sizeof handle.bytes};
  int id, place = open(path, O_RDONLY);
  if (name_to_handle_at(AT_FDCWD, path, &handle.head, &id, 0) < 0) {
    tell(0, "name a handle", path);
    return;
  }
  tell(open_by_handle_at(place, &handle.head, O_RDONLY) >= 0, "open a handle", path);
}

// Up and out of a chroot of its own, to the root that the process was given.
static void climb(void) {
  mkdir("/tmp/cell", 0755);
  int out = open("/", O_RDONLY | O_DIRECTORY);
  if (chroot("/tmp/cell") < 0) tell(0, "chroot", "/tmp/cell");
  if (fchdir(out) < 0) tell(0, "leave", "/tmp/cell");
  for (int step = 0; step < 64; step++)
    if (chdir("..") < 0) tell(0, "climb", "..");
  struct stat probe;
  errno = ENOENT;
  tell(stat("probe", &probe) < 0, "climb to", "another root");
}

static void connect_to(const char *name) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(name);
  memcpy(address.sun_path + 1, name, length);
  int file = socket(AF_UNIX, SOCK_STREAM, 0);
  socklen_t size = offsetof(struct sockaddr_un, sun_path) + 1 + length;
  tell(connect(file, (struct sockaddr *)&address, size) == 0, "connect to", name);
}

static void device(const char *kind, int first, int second) {
  char path[64], name[64];
  snprintf(path, sizeof path, "/tmp/device-%d-%d", first, second);
  snprintf(name, sizeof name, "%s %d:%d", kind, first, second);
  mode_t mode = 0600 | (*kind == 'b' ? S_IFBLK : S_IFCHR);
  if (!(mknod(path, mode, makedev(first, second)) == 0)) {
    tell(0, "make device", name);
    return;
  }
  tell(open(path, O_RDONLY) >= 0, "open device", name);
  tell(open(path, O_WRONLY) >= 0, "write device", name);
}

static void kill_all(int count, char **pids) {
  static const int signals[] = {9, 15, 19, 1, 6};
  for (int number = 0; number < count; number++)
    for (size_t which = 0; which < sizeof signals / sizeof *signals; which++)
      tell(kill(atoi(pids[number]), signals[which]) == 0, "signal", pids[number]);
}

int main(int count, char **words) {
  const char *verb = count > 1 ? words[1] : "";
  if (!strcmp(verb, "program")) change_program(words[2]);
  else if (!strcmp(verb, "programs")) change_programs();
  else if (!strcmp(verb, "look"))
    for (int number = 2; number < count; number++) look_into(words[number]);
  else if (!strcmp(verb, "newborns")) newborns();
  else if (!strcmp(verb, "trace-newborns")) trace_newborns();
  else if (!strcmp(verb, "swap")) swap(words[2], words[3]);
  else if (!strcmp(verb, "key")) key(words[2], words[3]);
  else if (!strcmp(verb, "type")) type_into(words[2], words[3]);
  else if (!strcmp(verb, "write"))
    for (int number = 3; number < count; number++) try_write(words[number], words[2]);
  else if (!strcmp(verb, "proc")) in_new_namespaces(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID, "user, mnt, pid", mount_proc);
  else if (!strcmp(verb, "cgroups")) {
    in_new_namespaces(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP, "user, mnt, cgroup", mount_cgroups);
    in_new_namespaces(CLONE_NEWNS | CLONE_NEWCGROUP, "mnt, cgroup", mount_cgroups);
    in_new_namespaces(0, "nothing", mount_cgroups);
  } else if (!strcmp(verb, "handle")) by_handle(words[2]);
  else if (!strcmp(verb, "climb")) climb();
  else if (!strcmp(verb, "connect")) connect_to(words[2]);
  else if (!strcmp(verb, "device")) device(words[2], atoi(words[3]), atoi(words[4]));
  else if (!strcmp(verb, "signal")) kill_all(count - 2, words + 2);
  else return 2;
  return 0;
}
