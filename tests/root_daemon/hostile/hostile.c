// The bad neighbours of hostile.rs, by verb. Each says `ready` when it is what it is called.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void ready(void) {
  if (write(1, "ready\n", 6) < 0) exit(1);
}

static void rest(void) {
  for (;;) pause();
}

// Forks as fast as it can, in each of its processes, and goes on when it may not. With a limit, its user has so many.
static void bomb(int limit) {
  struct rlimit processes = {limit, limit};
  if (limit > 0 && setrlimit(RLIMIT_NPROC, &processes) < 0) exit(1);
  ready();
  for (;;)
    if (fork() < 0) usleep(1000);
}

// Children that have ended and are never waited for.
static void zombies(int count) {
  for (; count > 0; count--)
    if (fork() == 0) _exit(0);
  ready();
  rest();
}

// Ignores each signal that can be ignored, and blocks the others.
static void deaf(void) {
  sigset_t all;
  for (int number = 1; number < NSIG; number++) signal(number, SIG_IGN);
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
  ready();
  rest();
}

static void stopped(void) {
  ready();
  raise(SIGSTOP);
  rest();
}

// Says as much as the other end takes.
static void loud(void) {
  static char line[4096];
  memset(line, 'x', sizeof line);
  line[sizeof line - 1] = '\n';
  ready();
  while (write(1, line, sizeof line) > 0)
    ;
}

// Takes memory for ever: a child is killed for it, and the next one does the same.
static void greedy(void) {
  ready();
  for (;;) {
    if (fork() == 0)
      for (char *more; (more = malloc(1 << 20)) != NULL;) memset(more, 1, 1 << 20);
    wait(NULL);
  }
}

// Waits in the kernel for a file that nobody gives out.
static void waiting(const char *path) {
  struct stat status;
  ready();
  stat(path, &status);
  rest();
}

int main(int count, char **words) {
  const char *verb = count > 1 ? words[1] : "", *more = count > 2 ? words[2] : "";
  if (!strcmp(verb, "bomb")) bomb(atoi(more));
  if (!strcmp(verb, "zombies")) zombies(atoi(more));
  if (!strcmp(verb, "deaf")) deaf();
  if (!strcmp(verb, "stopped")) stopped();
  if (!strcmp(verb, "loud")) loud();
  if (!strcmp(verb, "greedy")) greedy();
  if (!strcmp(verb, "waiting")) waiting(more);
  return 2;
}
