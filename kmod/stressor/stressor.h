/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of hmm-stressor share. */
#ifndef STRESSOR_H
#define STRESSOR_H

#include <linux/types.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

enum {
	EXIT_DONE = 0,
	EXIT_CORRUPTION = 1,	/* data is wrong: a "corruption" was sent */
	EXIT_PARAMETER = 2,
	EXIT_ENVIRONMENT = 3,	/* no device node, no such CPU, ... */
	EXIT_CHECK = 4,		/* an answer of the module is wrong */
};

/* What a PMD maps on the machines that have huge device folios. */
#define HUGE_SIZE	0x200000UL

/*
 * A parameter: a number within min..max, one of the names in choices, or, with
 * any_text for choices, whatever was given.
 */
struct parameter {
	const char *name;
	const char *help;
	__u64 value;		/* default, then what was given */
	__u64 min;
	__u64 max;
	const char *const *choices;	/* NULL-terminated; value is an index */
};

extern const char *const any_text[];
/* The text is kept where it is. */
void parameter_set_text(struct parameter *parameter, const char *text);
const char *parameter_text(const struct parameter *parameter);

struct scenario {
	const char *name;
	const char *help;
	struct parameter *parameters;	/* ends with a NULL name */
	void (*defaults)(void);		/* fills parameters, or NULL */
	int (*run)(const struct scenario *scenario);
};

extern const struct scenario trylock_starvation;
extern const struct scenario trylock_starvation_forced;
extern const struct scenario pmd_trylock_starvation;
extern const struct scenario pmd_trylock_starvation_forced;
extern const struct scenario rt_spinner;
extern const struct scenario drain_pressure;
extern const struct scenario ioctl_check;
extern const struct scenario ioctl_fuzz;
extern const struct scenario idle;
extern const struct scenario slow_progress;
extern const struct scenario fault_cost;
extern const struct scenario fault_cost_shared;
extern const struct scenario upstream_hmm_tests;
extern const struct scenario upstream_hmm_tests_coherent;
extern const struct scenario churn_scenario;
extern const struct scenario refcount_livelock;
extern const struct scenario lock_hog;
extern const struct scenario failed_migration;
extern const struct scenario two_devices;
extern const struct scenario split_unmapped_folio;
extern const struct scenario zap_migration_entry;
extern const struct scenario stale_page_flags;
extern const struct scenario freed_anon_vma;
extern const struct scenario awaited_page_reuse;
extern const struct scenario xe_system_allocator;

/* json.c: one object a line, sent by one write(). */
struct json {
	size_t length;
	bool comma;
	bool overflow;
	char text[8192];
};

void json_begin(struct json *json, const char *type);
/* The last message of a scenario, with what every one of them says. */
void json_begin_end(struct json *json, __u64 iterations, int status);
void json_key(struct json *json, const char *key);
void json_number(struct json *json, const char *key, __u64 value);
void json_signed(struct json *json, const char *key, __s64 value);
void json_seconds(struct json *json, const char *key, double value);
/* A member of "metrics". */
void json_metric(struct json *json, const char *name, double value);
void json_bool(struct json *json, const char *key, bool value);
void json_string(struct json *json, const char *key, const char *value);
void json_open(struct json *json, const char *key, char bracket);
void json_close(struct json *json, char bracket);
void json_send(struct json *json);
/* {"type":"error",...}; error is an errno value or 0. */
[[gnu::format(printf, 3, 4)]]
void report_error(const char *what, int error, const char *format, ...);
void report_start(const struct scenario *scenario);

/* platform.c */
__u64 now_ns(void);
double now_seconds(void);
int pin_to_cpu(unsigned int cpu);
bool cpu_online(unsigned int cpu);
int open_device(unsigned int index);
/* False with errno set. */
bool write_file(const char *path, const char *text);
/* What one read() gives, as text; false with errno set, also for nothing. */
bool read_file(const char *path, char *text, size_t size);
/*
 * For a busy wait, and to hand over: where an emulator runs one virtual CPU at
 * a time, each for milliseconds, it ends the turn.  Without it a wait burns the
 * time of the very CPU it waits for.
 */
void relax(void);
/* Waits until *word is no longer value: spins a little, then sleeps. */
void wait_while(atomic_uint *word, __u32 value, __u64 spin_ns);
/* The same, but false once timeout_ns have passed. */
bool wait_while_for(atomic_uint *word, __u32 value,
		    __u64 timeout_ns);
void set_and_wake(atomic_uint *word, __u32 value);

/* Names for a parameter of set_policy(). */
extern const char *const policies[];
enum { POLICY_OTHER, POLICY_FIFO, POLICY_RR, POLICY_BATCH };
/* An index of policies[]; priority for the real-time ones. An errno value. */
int set_policy(__u64 policy, __u64 priority);

/* fairserver.c: what stop_ did, or began to do, restore_ undoes. */
int stop_fair_servers(void);
int restore_fair_servers(void);

/* progress.c: the messages by which a hang is told from work. */
struct progress_counter {
	const char *name;		/* NULL ends the list */
	atomic_ullong *count;
};

struct progress {
	const char *const *phases;	/* names for phase */
	const struct progress_counter *counters;
	void (*more)(struct json *json);	/* further members, or NULL */
	bool pinned;			/* to cpu, one that is not lost */
	unsigned int cpu;
	atomic_ullong iteration;
	atomic_uint phase;
	atomic_uint ending;
	pthread_t thread;
};

/* EXIT_DONE, or reported and what to exit with: nothing is to be stopped then. */
int progress_start(struct progress *progress);
void progress_stop(struct progress *progress);

/* window.c: the member "window" of an iteration. */
struct hmm_harness_window;
void json_window(struct json *json, const struct hmm_harness_window *window);

/* device.c: EXIT_DONE, or reported and what to exit with. */
struct hmm_harness_stats;
struct hmm_harness_behave;
/* A descriptor that is attached, or -1; pages, or NULL: reported as well. */
int attach_device(unsigned int index);
char *map_pages(size_t pages);
/* Room for so many huge pages, aligned to be such; what comes up is not said. */
char *map_huge(size_t count);
void *map_shared(size_t size);
int device_stats(int fd, struct hmm_harness_stats *stats);
/* Finer than now_ns() in an emulated machine, and of the caller's CPU. */
__u64 device_clock_ns(int fd);
int device_behave(int fd, struct hmm_harness_behave *behave);
/* All of the pages, none of which is there yet. */
int move_to_device(int fd, const char *memory, size_t pages);
int check_content(const char *process, __u64 iteration, const char *memory,
		  size_t pages, __u64 key);
/* Until the module holds a batch of this file, or its holder has passed. */
void wait_until_held(int fd, atomic_uint *passed);

/* samples.c */
struct samples {
	double *values;
	size_t count;
	size_t room;
};

/* False, and reported, if there is no memory for it. */
bool samples_add(struct samples *samples, double value);
/* These are 0 of none. */
double samples_median(struct samples *samples);
double samples_max(const struct samples *samples);

/* pattern.c: what every page must hold. */
struct mismatch {
	size_t page;
	size_t offset;
	__u64 expected;
	__u64 found;
};

__u64 mix64(__u64 value);
__u64 first_word(const void *memory);
void pattern_fill(void *memory, size_t first, size_t pages, __u64 key);
bool pattern_verify(const void *memory, size_t first, size_t pages,
		    __u64 key, struct mismatch *mismatch);
void report_corruption(const char *process, __u64 iteration,
		       const void *memory, const struct mismatch *mismatch);
/* A signal is an answer as well, to who accesses memory of its own. */
void report_signal(const char *process, __u64 iteration,
		   const siginfo_t *info);

extern size_t page_size;

#endif /* STRESSOR_H */
