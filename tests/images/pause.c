/* The process of a pause image: waits, reaps what is left to it, ends on SIGTERM and SIGINT. */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static void quit(int signal) { _exit(signal == 0); }

static void reap(int signal) {
	while (waitpid(-1, NULL, WNOHANG) > 0 && signal) {
	}
}

int main(void) {
	signal(SIGTERM, quit);
	signal(SIGINT, quit);
	signal(SIGCHLD, reap);
	for (;;) {
		pause();
	}
}
