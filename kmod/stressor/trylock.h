/* SPDX-License-Identifier: GPL-2.0-only */
/* What holder and spinner of the trylock starvation share. */
#ifndef TRYLOCK_H
#define TRYLOCK_H

#include "hmm_harness.h"
#include "stressor.h"

/* Longer than a busy host takes to run both virtual CPUs. */
#define SPIN_NS		(40 * 1000000ULL)

enum {
	DRAIN, DRAIN_PAUSE_US, WINDOW, HOLD_MS, RACE,
	PAGES = RACE, SYSTEM_PAGES, APPROACH_PAGES, FAULT_PAGES, ITERATIONS,
	SEED, JITTER, HOLDER_CPU, SPINNER_CPU, ENTRY, TIMEOUT_MS, POLICY, PRIORITY,
	FAIR_SERVER, OWNER, PAUSE_MS, PARAMETERS
};

enum { NOTIFIER, WORK, FAULT, NO_HOLD };

/* Those of the scenario that runs. */
extern struct parameter *trylock_parameters;
extern const char *const trylock_entries[];

#define VALUE(which)	(trylock_parameters[which].value)

/* The child's steps, in order; it sleeps before AWAKE, GO and VERIFY. */
enum { FORKED, READY, DONE, VERIFIED };
enum { HOLD, WAKE, GO, VERIFY };

/* Shared by parent and child. */
struct shared {
	atomic_uint child;		/* FORKED.. */
	atomic_uint awake;
	atomic_uint order;		/* HOLD.. */
	atomic_uint passed;		/* the mixed batch is over */
	atomic_ullong spinner_count;
	int error;			/* of a step of the child, errno */
	const char *error_step;		/* same address in parent and child */
	int fault_error;
	__u64 fault_retries;
	__u64 fault_ns;
};

struct trylock {
	bool forced;			/* the module holds the batch */
	bool huge;			/* the device pages are huge pages */
	bool pressed;			/* others drain as well */
	char *approach;			/* approach pages, then memory */
	char *memory;			/* system pages, then device pages */
	size_t pages;			/* of both kinds */
	char *scratch;			/* BATCH_PAGES pages */
	int device;			/* the holder's mirror */
	struct shared *shared;
	__u64 key;			/* of this iteration's pattern */
	struct progress progress;
	atomic_ullong holder_count;
	atomic_ullong toucher_count;
	atomic_uint touch;		/* 1: asked for, 0: done, 2: end */
	struct hmm_harness_touch touched;
	int touch_error;
	pthread_t spinner;		/* if it is no child */
	__u64 hits, migrated, faults;
	struct samples delay_ms;	/* of the holder, one a hit */
};

extern struct trylock run;

/* trylock.c */
char *trylock_device_memory(void);
/* The spinner is a thread of this process instead of a child. */
bool trylock_threaded(void);

/* spinner.c: a child, or a thread, which is READY when this returns. */
int spinner_start(pid_t *pid, const __u64 *steps);
/* Waits for it to leave a step; false, and reported, if it died instead. */
bool spinner_passes(pid_t pid, __u32 step);
/* Counted, not timed. */
void trylock_delay(__u64 steps);

/* drains.c: a process that calls lru_add_drain_all() on the holder's CPU. */
extern const char *const drain_choices[];
int drains_start(void);
int drains_stop(void);
/* The calls since the last time, by name. */
void json_drains(struct json *json);
__u64 drains_worst_ns(void);

#endif /* TRYLOCK_H */
