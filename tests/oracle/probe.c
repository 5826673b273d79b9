// What a program finds inside a container, as one JSON object on stdout. Static, so that any root file system will do.
// Arguments say what to look at beyond the process itself:
//   file:PATH      what a file says (cut at 400 bytes), or the errno
//   stat:PATH      what is there: kind, mode, owner, number, target; whether it can be read, written, listed, made in
//   list:PATH      the names in a directory
//   device:KMAJ:MIN  makes such a node in /tmp and opens it to read and to write
//   call:NAME      one of the calls below: its errno, or that it killed the caller
//   exit:CODE      what to end with
// Invariant: it reports, and never judges; what differs between two runs of one runtime is taken out by its reader.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int first = 1;

static void text(const char *s, size_t n) {
  putchar('"');
  for (size_t i = 0; i < n; i++) {
    unsigned char c = s[i];
    if (c == '"' || c == '\\') printf("\\%c", c);
    else if (c < 32 || c > 126) printf("\\u%04x", c);
    else putchar(c);
  }
  putchar('"');
}

static void key(const char *name) {
  printf(first ? "\n" : ",\n");
  first = 0;
  text(name, strlen(name));
  putchar(':');
}

static void number(const char *name, long long value) { key(name); printf("%lld", value); }
static void string(const char *name, const char *value) { key(name); text(value, strlen(value)); }
static void fault(void) { printf("\"errno %d\"", errno); }

static void ids(void) {
  uid_t r, e, s;
  gid_t gr, ge, gs, groups[256];
  getresuid(&r, &e, &s);
  getresgid(&gr, &ge, &gs);
  key("uids"); printf("[%u,%u,%u]", r, e, s);
  key("gids"); printf("[%u,%u,%u]", gr, ge, gs);
  int n = getgroups(256, groups);
  key("groups"); putchar('[');
  for (int i = 0; i < n; i++) printf("%s%u", i ? "," : "", groups[i]);
  putchar(']');
}

static void capabilities(void) {
  struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};
  syscall(SYS_capget, &head, data);
  unsigned long long bounding = 0, ambient = 0;
  for (int i = 0; i < 64; i++) {
    if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1) bounding |= 1ull << i;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1) ambient |= 1ull << i;
  }
  key("capabilities");
  printf("{\"bounding\":\"%llx\",\"effective\":\"%x%08x\",\"permitted\":\"%x%08x\",\"inheritable\":\"%x%08x\",\"ambient\":\"%llx\"}",
         bounding, data[1].effective, data[0].effective, data[1].permitted, data[0].permitted, data[1].inheritable,
         data[0].inheritable, ambient);
}

static void switches(void) {
  int signal = -1;
  prctl(PR_GET_PDEATHSIG, &signal);
  number("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
  number("securebits", prctl(PR_GET_SECUREBITS));
  number("keepcaps", prctl(PR_GET_KEEPCAPS));
  number("dumpable", prctl(PR_GET_DUMPABLE));
  number("parent_death_signal", signal);
  number("timer_slack", prctl(PR_GET_TIMERSLACK));
  number("thp_disable", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
  number("subreaper", (prctl(PR_GET_CHILD_SUBREAPER, &signal), signal));
  number("seccomp", prctl(PR_GET_SECCOMP));
  number("personality", personality(0xffffffff));
  mode_t mask = umask(0);
  number("umask", mask);
}

static void scheduling(void) {
  uint32_t attr[14] = {sizeof attr};
  syscall(SYS_sched_getattr, 0, attr, sizeof attr, 0);
  uint64_t times[3];
  memcpy(times, attr + 6, sizeof times);
  key("scheduler");
  printf("{\"policy\":%u,\"flags\":%u,\"nice\":%d,\"priority\":%u,\"runtime\":%llu,\"deadline\":%llu,\"period\":%llu}", attr[1],
         attr[2], (int)attr[4], attr[5], attr[1] == 6 ? (unsigned long long)times[0] : 0, (unsigned long long)times[1],
         (unsigned long long)times[2]);
  number("ioprio", syscall(SYS_ioprio_get, 1, 0));
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  key("affinity"); putchar('[');
  for (int i = 0, any = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &set)) printf("%s%d", any++ ? "," : "", i);
  putchar(']');
  int mode = -1;
  unsigned long nodes[16] = {0};
  syscall(SYS_get_mempolicy, &mode, nodes, 1024, 0, 0);
  key("memory_policy"); printf("[%d,%lu]", mode, nodes[0]);
}

static void limits(void) {
  key("rlimits"); putchar('[');
  for (int i = 0; i < 16; i++) {
    struct rlimit limit;
    getrlimit(i, &limit);
    printf("%s\"%llx:%llx\"", i ? "," : "", (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
  }
  putchar(']');
}

static void names(void) {
  struct utsname u;
  uname(&u);
  string("hostname", u.nodename);
  string("domainname", u.domainname);
  string("machine", u.machine);
  char here[4096];
  if (getcwd(here, sizeof here)) string("cwd", here);
  else { key("cwd"); fault(); }
}

static void times(void) {
  struct timespec monotonic, boot;
  clock_gettime(CLOCK_MONOTONIC, &monotonic);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  key("clocks"); printf("[%lld,%lld]", (long long)monotonic.tv_sec, (long long)boot.tv_sec);
}

static void signals(void) {
  sigset_t blocked;
  sigprocmask(SIG_BLOCK, 0, &blocked);
  key("blocked"); putchar('[');
  for (int i = 1, any = 0; i < 65; i++)
    if (sigismember(&blocked, i) == 1) printf("%s%d", any++ ? "," : "", i);
  putchar(']');
  key("ignored"); putchar('[');
  for (int i = 1, any = 0; i < 65; i++) {
    unsigned long action[4] = {0};
    syscall(SYS_rt_sigaction, i, 0, action, 8);
    if (action[0] == 1) printf("%s%d", any++ ? "," : "", i);
  }
  putchar(']');
}

static void session(void) {
  number("pid", getpid());
  number("leads_session", getsid(0) == getpid());
  number("leads_group", getpgrp() == getpid());
  char keyring[256] = "";
  long got = syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, keyring, sizeof keyring);
  if (got < 0) { key("keyring"); fault(); } else string("keyring", keyring);
}

static void descriptors(void) {
  key("descriptors"); putchar('[');
  for (int fd = 0, any = 0; fd < 1024; fd++) {
    struct stat s;
    if (fstat(fd, &s) < 0) continue;
    printf("%s\"%d %o %x %o\"", any++ ? "," : "", fd, s.st_mode & S_IFMT, S_ISCHR(s.st_mode) ? (unsigned)s.st_rdev : 0,
           fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
  }
  putchar(']');
}

static void environment(int argc, char **argv, char **envp) {
  key("env"); putchar('[');
  for (int i = 0; envp[i]; i++) { if (i) putchar(','); text(envp[i], strlen(envp[i])); }
  putchar(']');
  number("argc", argc);
  string("argv0", argv[0]);
}

static void namespaces(void) {
  static const char *kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
  key("namespaces"); putchar('{');
  for (int i = 0; i < 8; i++) {
    char path[64], link[128];
    snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
    ssize_t n = readlink(path, link, sizeof link);
    printf("%s\"%s\":", i ? "," : "", kinds[i]);
    if (n < 0) fault(); else text(link, n);
  }
  putchar('}');
}

static void contents(const char *path, size_t most) {
  static char buffer[1 << 18];
  int fd = open(path, O_RDONLY | O_NONBLOCK);
  if (fd < 0) { fault(); return; }
  size_t n = 0;
  ssize_t got = 0;
  while (n < most && (got = read(fd, buffer + n, most - n)) > 0) n += got;
  if (n == 0 && got < 0) fault(); else text(buffer, n);
  close(fd);
}

static void look(const char *path) {
  struct stat s;
  if (lstat(path, &s) < 0) { fault(); return; }
  char target[4096];
  ssize_t n = S_ISLNK(s.st_mode) ? readlink(path, target, sizeof target) : 0;
  printf("{\"mode\":\"%o\",\"owner\":\"%u:%u\",\"number\":\"%x:%x\",\"target\":", s.st_mode, s.st_uid, s.st_gid,
         S_ISBLK(s.st_mode) || S_ISCHR(s.st_mode) ? major(s.st_rdev) : 0,
         S_ISBLK(s.st_mode) || S_ISCHR(s.st_mode) ? minor(s.st_rdev) : 0);
  text(target, n > 0 ? n : 0);
  struct statfs f;
  if (statfs(path, &f) == 0) printf(",\"fs\":\"%lx %lx\"", (unsigned long)f.f_type, (unsigned long)f.f_flags);
  if (!S_ISLNK(s.st_mode)) {
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    printf(",\"reads\":%d", fd < 0 ? errno : 0);
    if (fd >= 0) close(fd);
  }
  if (S_ISREG(s.st_mode) || S_ISCHR(s.st_mode) || S_ISBLK(s.st_mode)) {
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    printf(",\"writes\":%d", fd < 0 ? errno : 0);
    if (fd >= 0) close(fd);
  }
  if (S_ISDIR(s.st_mode)) {
    char inside[4200];
    snprintf(inside, sizeof inside, "%s/.probe", path);
    int fd = open(inside, O_CREAT | O_EXCL | O_WRONLY, 0600);
    printf(",\"makes\":%d", fd < 0 ? errno : 0);
    if (fd >= 0) { close(fd); unlink(inside); }
  }
  putchar('}');
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
  DIR *directory = opendir(path);
  if (!directory) { fault(); return; }
  char *all[2048];
  int n = 0;
  struct dirent *entry;
  while ((entry = readdir(directory)) && n < 2048)
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) all[n++] = strdup(entry->d_name);
  closedir(directory);
  qsort(all, n, sizeof *all, by_name);
  putchar('[');
  for (int i = 0; i < n; i++) { if (i) putchar(','); text(all[i], strlen(all[i])); }
  putchar(']');
}

static void device(const char *word) {
  unsigned major_number, minor_number;
  char kind;
  if (sscanf(word, "%c%u:%u", &kind, &major_number, &minor_number) != 3) { printf("null"); return; }
  unlink("/tmp/.node");
  int made = mknod("/tmp/.node", (kind == 'b' ? S_IFBLK : S_IFCHR) | 0666, makedev(major_number, minor_number));
  printf("{\"make\":%d", made < 0 ? errno : 0);
  int modes[] = {O_RDONLY, O_WRONLY};
  for (int i = 0; i < 2; i++) {
    int fd = open("/tmp/.node", modes[i] | O_NONBLOCK | O_NOCTTY);
    printf(",\"%s\":%d", i ? "write" : "read", fd < 0 ? errno : 0);
    if (fd >= 0) close(fd);
  }
  putchar('}');
  unlink("/tmp/.node");
}

static long one_call(const char *name) {
  char here[4096];
  if (!strcmp(name, "chmod")) return chmod("/tmp", 01777);
  if (!strcmp(name, "getcwd")) return syscall(SYS_getcwd, here, sizeof here);
  if (!strcmp(name, "mkdir")) return mkdir("/tmp/.made", 0700) == 0 ? rmdir("/tmp/.made") : -1;
  if (!strcmp(name, "socket")) return socket(AF_INET, SOCK_STREAM, 0);
  if (!strcmp(name, "socket_vsock")) return socket(40, SOCK_STREAM, 0);
  if (!strcmp(name, "personality_8")) return personality(8);
  if (!strcmp(name, "personality_0")) return personality(0);
  if (!strcmp(name, "unshare")) return unshare(CLONE_NEWUTS);
  if (!strcmp(name, "unshare_user")) return unshare(CLONE_NEWUSER);
  if (!strcmp(name, "mount")) return mount("x", "/tmp", "tmpfs", 0, 0);
  if (!strcmp(name, "setuid")) return setuid(4242);
  if (!strcmp(name, "sethostname")) return sethostname("probe", 5);
  if (!strcmp(name, "chroot")) return chroot("/");
  if (!strcmp(name, "mknod")) return mknod("/tmp/.null", S_IFCHR | 0666, makedev(1, 3)) == 0 ? unlink("/tmp/.null") : -1;
  if (!strcmp(name, "nice")) return setpriority(PRIO_PROCESS, 0, -5);
  if (!strcmp(name, "raw_socket")) return socket(AF_INET, SOCK_RAW, 1);
  if (!strcmp(name, "keyctl")) return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
  if (!strcmp(name, "ptrace")) return syscall(SYS_ptrace, 0, 0, 0, 0);
  if (!strcmp(name, "bpf")) return syscall(SYS_bpf, 0, 0, 0);
  if (!strcmp(name, "future")) return syscall(1234);
  errno = EINVAL;
  return -1;
}

static void call(const char *name) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    errno = 0;
    _exit(one_call(name) < 0 ? errno : 0);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) < 0) { fault(); return; }
  if (WIFSIGNALED(status)) printf("\"signal %d\"", WTERMSIG(status));
  else printf("\"errno %d\"", WEXITSTATUS(status));
}

int main(int argc, char **argv, char **envp) {
  int code = 0;
  putchar('{');
  descriptors();
  ids();
  capabilities();
  switches();
  scheduling();
  limits();
  names();
  times();
  signals();
  session();
  environment(argc, argv, envp);
  namespaces();
  key("mounts"); contents("/proc/self/mountinfo", (1 << 18) - 1);
  key("oom_score_adj"); contents("/proc/self/oom_score_adj", 100);
  key("cgroup"); contents("/proc/self/cgroup", 4000);
  key("timens_offsets"); contents("/proc/self/timens_offsets", 400);
  key("uid_map"); contents("/proc/self/uid_map", 400);
  key("gid_map"); contents("/proc/self/gid_map", 400);
  key("loginuid"); contents("/proc/self/loginuid", 40);
  key("comm"); contents("/proc/self/comm", 40);
  for (int i = 1; i < argc; i++) {
    char *word = argv[i], *rest = strchr(word, ':');
    if (!rest) continue;
    rest++;
    if (!strncmp(word, "exit:", 5)) { code = atoi(rest); continue; }
    key(word);
    if (!strncmp(word, "file:", 5)) contents(rest, 400);
    else if (!strncmp(word, "stat:", 5)) look(rest);
    else if (!strncmp(word, "list:", 5)) list(rest);
    else if (!strncmp(word, "device:", 7)) device(rest);
    else if (!strncmp(word, "call:", 5)) call(rest);
    else printf("null");
  }
  printf("\n}\n");
  fflush(stdout);
  return code;
}
