// SPDX-License-Identifier: GPL-2.0-only
/* A churning process: its threads, its forks, and the ways it ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "churn.h"

#define MAX_THREADS	8
#define MAX_DEPTH	3

struct churn_process churn_self;

/* How often, of all; a fork, an opening and a collapse cost the most. */
static const struct {
	enum churn_kind kind;
	unsigned int weight;
	churn_operation *operation;
} operations[] = {
	{ KIND_WRITE,		12, churn_write },
	{ KIND_READ,		12, churn_read },
	{ KIND_DONTNEED,	4,  churn_dontneed },
	{ KIND_UNMAP,		4,  churn_unmap },
	{ KIND_PROTECT,		4,  churn_protect },
	{ KIND_MOVE,		3,  churn_move },
	{ KIND_MOVE_PART,	3,  churn_move_part },
	{ KIND_ADVISE,		2,  churn_advise },
	{ KIND_HUGE,		4,  churn_huge },
	{ KIND_FORK,		2,  churn_fork },
	{ KIND_TO_DEVICE,	16, churn_to_device },
	{ KIND_MIXED,		8,  churn_mixed },
	{ KIND_TO_SYSTEM,	6,  churn_to_system },
	{ KIND_FAULT,		6,  churn_fault },
	{ KIND_FAULT_FOREIGN,	8,  churn_fault_foreign },
	{ KIND_SNAPSHOT,	3,  churn_snapshot },
	{ KIND_TOUCH,		3,  churn_touch },
	{ KIND_COLLAPSE,	3,  churn_collapse },
	{ KIND_SPLIT,		2,  churn_split },
	{ KIND_PAGEOUT,		3,  churn_pageout },
	{ KIND_REOPEN,		3,  churn_reopen },
	{ KIND_HOG,		3,  churn_hog },
	{ KIND_EVICT,		2,  churn_evict },
};

/* The threads of this process stop when it is to end. */
static atomic_uint leaving;

/* Access that was refused is content lost: the page is known to be there. */
static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	report_signal("churn", churn_self.number, info);
	churn_fails(EXIT_CORRUPTION);
	_exit(EXIT_CORRUPTION);
}

static void watch_signals(void)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO };

	action.sa_sigaction = on_signal;
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static void churner_begin(struct churner *self, __u64 random)
{
	self->random = random;
	self->lane = churn_lane_take();
	snprintf(self->name, sizeof(self->name), "churn %llu, fork %u",
		 (unsigned long long)churn_self.number, churn_self.depth);
}

static bool step(struct churner *self)
{
	unsigned int i, all = 0, chosen;

	for (i = 0; i < ARRAY_SIZE(operations); i++)
		all += operations[i].weight;
	chosen = churn_random(self) % all;
	for (i = 0; chosen >= operations[i].weight; i++)
		chosen -= operations[i].weight;
	return churn_do(self, operations[i].kind, operations[i].operation) !=
	       RESULT_FAILED;
}

static void steps(struct churner *self, __u64 count)
{
	while (count-- && !atomic_load(&leaving) &&
	       !atomic_load(&churn->ending) && step(self))
		;
}

static void *thread(void *random)
{
	struct churner self;

	churner_begin(&self, *(__u64 *)random);
	steps(&self, ~0ULL);
	churn_lane_leave(self.lane);
	return NULL;
}

/* In any of these ways; the last three leave pages on devices. */
[[gnu::noreturn]] static void end(struct churner *self, pthread_t *threads,
			  unsigned int count)
{
	__u64 way = churn_random(self) % 4;
	unsigned int i;

	/* While the other threads are inside whatever they are at. */
	if (way == 3 && !atomic_load(&churn->ending))
		_exit(EXIT_DONE);
	atomic_store(&leaving, 1);
	for (i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	/* Without a mirror the driver still brings its pages home. */
	if (way == 1)
		churn_close_all();
	if (way != 2 || atomic_load(&churn->ending))
		churn_check_all(self);
	if (way == 0)
		churn_close_all();
	_exit(EXIT_DONE);
}

void churn_life(__u64 number, __u64 random)
{
	pthread_t threads[MAX_THREADS];
	__u64 randoms[MAX_THREADS];
	unsigned int i, count = VALUE(THREADS) - 1;
	struct churner self;
	int error;

	churn_self.number = number;
	watch_signals();
	churn_close_held();
	churner_begin(&self, random);
	error = churn_open_all();
	error = error ?: churn_arena(&self);
	for (i = 0; !error && i < count; i++) {
		randoms[i] = churn_random(&self);
		error = pthread_create(&threads[i], NULL, thread, &randoms[i]);
	}
	if (error) {
		report_error("churn", error, "process %llu does not come up",
			     (unsigned long long)number);
		churn_fails(EXIT_ENVIRONMENT);
		_exit(EXIT_ENVIRONMENT);
	}
	steps(&self, 20 + churn_random(&self) % 200);
	end(&self, threads, count);
}

/* A copy with one thread, and with its parent's mirrors or its own. */
[[gnu::noreturn]] static void child(__u64 random)
{
	struct churner self;

	churn_self.depth++;
	churn_unlock_all();
	churner_begin(&self, random);
	if (churn_random(&self) % 4) {
		int error;

		churn_close_all();
		error = churn_open_all();
		if (error) {
			report_error("churn", error, "child of process %llu",
				     (unsigned long long)churn_self.number);
			churn_fails(EXIT_ENVIRONMENT);
		}
	} else {
		atomic_store(&churn_self.own, false);
	}
	if (churn_random(&self) & 1)
		churn_check_all(&self);
	steps(&self, churn_random(&self) % 40);
	churn_check_all(&self);
	_exit(EXIT_DONE);
}

enum churn_result churn_fork(struct churner *self)
{
	__u64 random = churn_random(self);
	int status, error;
	pid_t pid;

	for (;;) {
		pid = waitpid(-1, &status, WNOHANG);
		if (pid <= 0)
			break;
		churn_reaped(pid);
	}
	if (churn_self.depth >= MAX_DEPTH)
		return RESULT_REFUSED;
	if (atomic_fetch_add(&churn->alive, 1) >= (int)MAX_ALIVE) {
		atomic_fetch_sub(&churn->alive, 1);
		return RESULT_REFUSED;
	}
	/* Content and what is known of it must be of one moment. */
	churn_lock_all();
	pid = fork();
	error = errno;
	if (!pid)
		child(random);
	churn_unlock_all();
	if (pid > 0)
		return RESULT_DONE;
	atomic_fetch_sub(&churn->alive, 1);
	report_error("fork", error, "%s", self->name);
	churn_fails(EXIT_ENVIRONMENT);
	return RESULT_FAILED;
}
