/* SPDX-License-Identifier: GPL-2.0-only */
/* What the processes of the churn share. */
#ifndef CHURN_H
#define CHURN_H

#include "hmm_harness.h"
#include "stressor.h"

/* A huge page's worth on x86. */
#define BLOCK_PAGES	512
#define MAX_BLOCKS	64
/* More threads than ever live at a time: see MAX_ALIVE. */
#define LANES		512

enum {
	OPERATIONS, TIME_S, PROCESSES, THREADS, PAGES, RESERVE_MB, PATIENCE_S,
	SMALL_PERCENT, EVICT_MS, SEED, PARAMETERS
};

extern struct parameter churn_parameters[];

#define VALUE(which)	(churn_parameters[which].value)
/* Processes, with those that were forked off them. */
#define MAX_ALIVE	(3 * VALUE(PROCESSES))

enum churn_kind {
	/* Each knows what the pages hold: with the block locked. */
	KIND_WRITE, KIND_READ, KIND_DONTNEED, KIND_UNMAP, KIND_PROTECT,
	KIND_MOVE, KIND_MOVE_PART, KIND_ADVISE, KIND_HUGE, KIND_FORK,
	/* These change no content, and care for no lock. */
	KIND_TO_DEVICE, KIND_MIXED, KIND_TO_SYSTEM, KIND_FAULT,
	KIND_FAULT_FOREIGN, KIND_SNAPSHOT, KIND_TOUCH, KIND_COLLAPSE, KIND_SPLIT,
	KIND_PAGEOUT, KIND_REOPEN, KIND_HOG, KIND_EVICT,
	/* Of the whole machine. */
	KIND_DROP_CACHES, KIND_COMPACT, KIND_BALLAST, KIND_HOLD_OPEN,
	KIND_BEHAVE,
	KINDS
};

extern const char *const churn_names[];

enum churn_result { RESULT_DONE, RESULT_REFUSED, RESULT_FAILED };

/* What a thread is at: one that is at it too long is stuck. */
struct churn_lane {
	atomic_int pid;			/* 0: nobody's */
	atomic_uint kind;
	atomic_ullong began_ns;		/* 0: between operations */
};

/* Shared by all processes. */
struct churn_shared {
	atomic_uint ending;		/* no further operation */
	atomic_int status;		/* EXIT_..., of the first that failed */
	atomic_int alive;		/* processes */
	atomic_ullong operations;
	atomic_ullong slowest_ns;
	atomic_ullong huge;		/* snapshots that saw huge device pages */
	atomic_ullong done[KINDS];
	atomic_ullong refused[KINDS];
	struct churn_lane lanes[LANES];
};

/* 512 pages that move together, and what they must hold. */
struct churn_block {
	pthread_mutex_t lock;
	atomic_uintptr_t memory;	/* read without the lock as well */
	bool huge;			/* huge pages are wanted */
	__u64 tag[BLOCK_PAGES];		/* of the pattern; 0: zeros */
};

static inline char *churn_memory(struct churn_block *block)
{
	return (char *)atomic_load(&block->memory);
}

/* A process and its memory; a fork gives the child a copy. */
struct churn_process {
	__u64 number;			/* of the life it descends from */
	unsigned int depth;		/* of forks */
	size_t blocks;
	struct churn_block block[MAX_BLOCKS];
	char *arena;			/* all places of blocks */
	size_t arena_length;
	pthread_mutex_t spare_lock;	/* behind a block's lock */
	char *spare;			/* a place without a block */
	char *scratch;			/* another one */
	atomic_int device[HMM_HARNESS_MAX_DEVICES];
	atomic_bool own;		/* those mirror this very process */
};

/* A thread of such a process. */
struct churner {
	__u64 random;
	struct churn_lane *lane;
	char name[48];
	enum churn_kind kind;
};

extern struct churn_shared *churn;
extern struct churn_process churn_self;

/* churn.c */
extern unsigned int churn_devices;
/* Ends the run; the first reason is the one that counts. */
void churn_fails(int status);
void churn_reaped(pid_t pid);
struct churn_lane *churn_lane_take(void);
void churn_lane_leave(struct churn_lane *lane);
/* One operation of this kind, counted and timed. */
typedef enum churn_result churn_operation(struct churner *self);
enum churn_result churn_do(struct churner *self, enum churn_kind kind,
			   churn_operation *operation);
void churn_close_held(void);
__u64 churn_random(struct churner *self);

/* churn_pressure.c */
int churn_pressure_start(__u64 random);
void churn_pressure_stop(void);

/* churn_process.c */
[[gnu::noreturn]] void churn_life(__u64 number, __u64 random);
enum churn_result churn_fork(struct churner *self);

/* churn_memory.c */
int churn_arena(struct churner *self);
void churn_lock_all(void);
void churn_unlock_all(void);
/* False, and reported, if a page does not hold what it must. */
bool churn_check_all(struct churner *self);
churn_operation churn_write, churn_read, churn_dontneed, churn_unmap,
	churn_protect, churn_move, churn_move_part, churn_advise, churn_huge;

/* churn_device.c */
int churn_open_all(void);
void churn_close_all(void);
/* A block as huge pages, where there are such device folios. */
enum churn_result churn_place_huge(struct churner *self, char *memory);
/* True if the device has these accesses, without waiting for long. */
bool churn_may_access(char *memory, size_t pages, bool write);
churn_operation churn_to_device, churn_mixed, churn_to_system, churn_fault,
	churn_fault_foreign, churn_snapshot, churn_touch, churn_collapse,
	churn_split, churn_pageout, churn_reopen, churn_hog,
	churn_evict;

#endif /* CHURN_H */
