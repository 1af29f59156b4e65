/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of ioctl-fuzz share. */
#ifndef FUZZ_H
#define FUZZ_H

#include "hmm_harness.h"
#include "stressor.h"

#define FUZZ_FILES	8
#define FUZZ_REQUESTS	32
#define FUZZ_ERRNOS	134
/* Where every process has its playground, at one address in all of them. */
#define FUZZ_ARENA	0x200000000000ULL
#define FUZZ_ARENA_SIZE	0x1000000ULL
#define FUZZ_SCRATCH	(HMM_HARNESS_MAX_LENGTH / 4096)

struct fuzz_random {
	__u64 state;
};

struct fuzz_range {
	__u64 addr;
	__u64 length;
};

/* Counts of all processes, in shared memory. */
struct fuzz_shared {
	atomic_ullong tickets;		/* calls handed out */
	atomic_ullong calls;		/* ... and answered */
	atomic_ullong steps;		/* whatever else was done */
	atomic_uint wrong;		/* answers that no interface promises */
	struct {
		atomic_ullong calls;
		atomic_ullong good;
	} request[FUZZ_REQUESTS];	/* the last one: unknown requests */
	atomic_ullong answer[FUZZ_ERRNOS];
};

/* One process, with what its threads share. */
struct fuzz_process {
	struct fuzz_shared *shared;
	__u64 budget;			/* calls of the whole run */
	__u64 limit;			/* ... after which this one ends */
	bool huge;
	unsigned int fail_percent;
	unsigned int devices;
	atomic_int files[FUZZ_FILES];	/* descriptors, or -1 */
	int foreign[HMM_HARNESS_MAX_DEVICES];	/* of the parent's mm */
	unsigned char scratch[FUZZ_SCRATCH];
};

struct fuzz_thread {
	struct fuzz_process *process;
	struct fuzz_random random;
	struct fuzz_range range;	/* of the last call */
	int fail;			/* /proc/thread-self/fail-nth, or -1 */
};

/* fuzz.c */
__u64 fuzz_next(struct fuzz_random *random);
__u64 fuzz_below(struct fuzz_random *random, __u64 limit);
bool fuzz_percent(struct fuzz_random *random, unsigned int percent);

/* fuzzcall.c */
const char *fuzz_request_name(size_t index);	/* NULL after the last */
void fuzz_call(struct fuzz_thread *thread);
void fuzz_open(struct fuzz_thread *thread);

/* fuzzmm.c */
int fuzz_arena(void);		/* maps it; an errno value */
struct fuzz_range fuzz_range(struct fuzz_random *random);
void fuzz_touch(struct fuzz_random *random);
void fuzz_mm(struct fuzz_random *random);
/* Into memory that may not be there: false then. */
bool fuzz_copy(void *to, const void *from, size_t size);
void fuzz_catch_faults(void);

#endif /* FUZZ_H */
