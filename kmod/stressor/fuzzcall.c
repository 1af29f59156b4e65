// SPDX-License-Identifier: GPL-2.0-only
/*
 * One random ioctl.  All that is known of a request is in its row: where its
 * members are, what they may hold, and which errors hmm_harness.h promises.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fuzz.h"

#define MAX_FIELDS	24
#define MAX_SIZE	256
/* What a huge page that moves as one folio can be told. */
#define HUGE_MOVES	(HMM_HARNESS_MIGRATE_COMPOUND | \
			 HMM_HARNESS_MIGRATE_SMALL)

enum kind {
	END,		/* of the list; what no row names must be zero */
	RANGE,		/* addr and length, 16 bytes */
	FLAGS,		/* any of the bits in most */
	MOVES,		/* the same; no huge pages, ever, if none are wanted */
	NUMBER,		/* 0..most */
	POSITIVE,	/* 1..most */
	FEW,		/* 0 mostly, or 2..most, and no other, ever */
	ADDRESS,	/* of the range */
	BUFFER,		/* pointer to a byte for each page of the range */
	COUNT,		/* pages of the range */
	OUT,		/* ignored: anything */
};

struct field {
	enum kind kind;
	size_t size;
	const void *member;		/* of what structure points to */
	__u64 most;
};

struct request {
	const char *name;
	unsigned long number;
	unsigned int weight;
	const void *structure;
	struct field fields[MAX_FIELDS];
	__u64 errors;
};

#define FIELD(kind, member, most) { kind, sizeof(member), &(member), most }
#define RANGE_OF(type)	FIELD(RANGE, (type).addr, 0)

/* By their members the rows say where those are. */
static const struct hmm_harness_attach attach;
static const struct hmm_harness_fault fault;
static const struct hmm_harness_migrate migrate;
static const struct hmm_harness_snapshot snapshot;
static const struct hmm_harness_touch touch;
static const struct hmm_harness_stats stats;
static const struct hmm_harness_window window;
static const struct hmm_harness_hold hold;
static const struct hmm_harness_behave behave;
static const struct hmm_harness_hog hog;
static const struct hmm_harness_evict evict;

/* Every migration failing, a fault would go round for ever. */
#define NEXT_OF(step)	FIELD(FEW, (step).next, 3)
#define EVERY_OF(step)	FIELD(FEW, (step).every, 9)

/* A bit each. Beyond 63 is EOPNOTSUPP, which shares one with EMLINK. */
#define ERROR(error)	(1ULL << ((error) & 63))

/* Of every request; of those with a range; of those that allocate or wait. */
#define COMMON	(ERROR(EFAULT) | ERROR(EINVAL))
#define RANGED	(COMMON | ERROR(ERANGE) | ERROR(ENXIO) | ERROR(ESRCH))
#define LIMITED	(ERROR(ENOMEM) | ERROR(EINTR))

/* Long waits test nothing: a hold, or a fault in vain, of so many ms. */
#define WAIT_MS	12

static const struct request requests[] = {
	{ "ATTACH", HMM_HARNESS_ATTACH, 2, &attach, {},
	  COMMON | LIMITED | ERROR(EBUSY) },
	{ "FAULT", HMM_HARNESS_FAULT, 24, &fault, {
		RANGE_OF(fault),
		FIELD(FLAGS, fault.flags, HMM_HARNESS_FAULT_WRITE),
		FIELD(NUMBER, fault.owner, HMM_HARNESS_OWNER_DEVICE),
		FIELD(NUMBER, fault.owner_device, 1),
		FIELD(NUMBER, fault.entry, HMM_HARNESS_ENTRY_UNLOCKED),
		FIELD(NUMBER, fault.timeout_ms, WAIT_MS),
		FIELD(OUT, fault.retries, 0),
	}, RANGED | LIMITED | ERROR(EBUSY) | ERROR(EPERM) | ERROR(EOPNOTSUPP) },
	{ "MIGRATE_TO_DEVICE", HMM_HARNESS_MIGRATE_TO_DEVICE, 24, &migrate, {
		RANGE_OF(migrate),
		FIELD(MOVES, migrate.flags, HMM_HARNESS_MIGRATE_MIXED |
		      HUGE_MOVES),
		FIELD(OUT, migrate.migrated, 0),
	}, RANGED | LIMITED | ERROR(EOPNOTSUPP) },
	{ "MIGRATE_TO_SYSTEM", HMM_HARNESS_MIGRATE_TO_SYSTEM, 10, &migrate, {
		RANGE_OF(migrate),
		FIELD(MOVES, migrate.flags, HUGE_MOVES),
		FIELD(OUT, migrate.collected, 0),
	}, RANGED | LIMITED | ERROR(EOPNOTSUPP) },
	{ "SNAPSHOT", HMM_HARNESS_SNAPSHOT, 12, &snapshot, {
		RANGE_OF(snapshot),
		FIELD(BUFFER, snapshot.pages, 0),
		FIELD(COUNT, snapshot.count, 0),
	}, RANGED | LIMITED | ERROR(EBUSY) },
	{ "TOUCH", HMM_HARNESS_TOUCH, 12, &touch, {
		RANGE_OF(touch),
		FIELD(OUT, touch.cpu, 0),
	}, RANGED | LIMITED | ERROR(EAGAIN) },
	{ "STATS", HMM_HARNESS_STATS, 2, &stats, {
		FIELD(OUT, stats.faults, 0),
	}, COMMON },
	{ "WINDOW", HMM_HARNESS_WINDOW, 6, &window, {
		FIELD(FLAGS, window.flags, HMM_HARNESS_WINDOW_RESET),
		FIELD(OUT, window.batches, 0),
	}, COMMON | ERROR(EBUSY) },
	{ "HOLD", HMM_HARNESS_HOLD, 8, &hold, {
		RANGE_OF(hold),
		FIELD(NUMBER, hold.kind, HMM_HARNESS_HOLD_FAULT_ONLY),
		FIELD(POSITIVE, hold.timeout_ms, WAIT_MS),
	}, RANGED },
	{ "BEHAVE", HMM_HARNESS_BEHAVE, 3, &behave, {
		FIELD(FLAGS, behave.flags, HMM_HARNESS_BEHAVE_MUTEX),
		FIELD(NUMBER, behave.delay_us, 500),
		NEXT_OF(behave.to_ram[HMM_HARNESS_STEP_ALLOC]),
		NEXT_OF(behave.to_ram[HMM_HARNESS_STEP_REFERENCE]),
		NEXT_OF(behave.to_ram[HMM_HARNESS_STEP_COPY]),
		NEXT_OF(behave.to_device[HMM_HARNESS_STEP_ALLOC]),
		NEXT_OF(behave.to_device[HMM_HARNESS_STEP_REFERENCE]),
		NEXT_OF(behave.to_device[HMM_HARNESS_STEP_COPY]),
		EVERY_OF(behave.to_ram[HMM_HARNESS_STEP_ALLOC]),
		EVERY_OF(behave.to_ram[HMM_HARNESS_STEP_REFERENCE]),
		EVERY_OF(behave.to_ram[HMM_HARNESS_STEP_COPY]),
		EVERY_OF(behave.to_device[HMM_HARNESS_STEP_ALLOC]),
		EVERY_OF(behave.to_device[HMM_HARNESS_STEP_REFERENCE]),
		EVERY_OF(behave.to_device[HMM_HARNESS_STEP_COPY]),
	}, COMMON | ERROR(ERANGE) },
	{ "HOG", HMM_HARNESS_HOG, 8, &hog, {
		FIELD(ADDRESS, hog.addr, 0),
		FIELD(POSITIVE, hog.on_us, 1000),
		FIELD(NUMBER, hog.off_us, 1000),
		FIELD(POSITIVE, hog.duration_ms, WAIT_MS),
	}, RANGED | LIMITED | ERROR(EBUSY) | ERROR(ENOENT) },
	{ "EVICT", HMM_HARNESS_EVICT, 3, &evict, {
		FIELD(FLAGS, evict.flags, HMM_HARNESS_EVICT_GO_ON),
		FIELD(NUMBER, evict.delay_ms, 2),
		FIELD(OUT, evict.left, 0),
	}, COMMON | ERROR(ERANGE) | ERROR(EINTR) },
};

#define UNKNOWN	(FUZZ_REQUESTS - 1)

static_assert(ARRAY_SIZE(requests) <= UNKNOWN,
	      "FUZZ_REQUESTS is too small");

const char *fuzz_request_name(size_t index)
{
	return index < ARRAY_SIZE(requests) ? requests[index].name : NULL;
}

static size_t pick_request(struct fuzz_random *random)
{
	unsigned int sum = 0, at;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(requests); i++)
		sum += requests[i].weight;
	at = fuzz_below(random, sum);
	for (i = 0; at >= requests[i].weight; i++)
		at -= requests[i].weight;
	return i;
}

/* Where nothing is, or nobody may write, or only half of it is. */
static __u64 bad_pointer(struct fuzz_random *random)
{
	const __u64 pointers[] = {
		0, 1, -page_size, -1, 0xffff888000000000ULL,
		0x800000000000ULL - 8, 1ULL << 63, FUZZ_ARENA - 8,
		FUZZ_ARENA + FUZZ_ARENA_SIZE - 8,
	};

	return pointers[fuzz_below(random, ARRAY_SIZE(pointers))];
}

static __u64 arena_pointer(struct fuzz_random *random)
{
	__u64 page = FUZZ_ARENA +
		fuzz_below(random, FUZZ_ARENA_SIZE / page_size - 1) * page_size;

	/* Half of them across the border to the next page. */
	return page + (fuzz_percent(random, 50) ? page_size - 24 : 64);
}

static __u64 pick_buffer(struct fuzz_thread *thread)
{
	unsigned int dice = fuzz_below(&thread->random, 100);

	if (dice < 3)
		return bad_pointer(&thread->random);
	if (dice < 20)
		return arena_pointer(&thread->random);
	return (uintptr_t)thread->process->scratch;
}

static void put_field(struct fuzz_thread *thread, const struct field *field,
		      const struct fuzz_range *range, unsigned char *to)
{
	struct fuzz_random *random = &thread->random;
	__u64 value = 0;

	switch (field->kind) {
	case RANGE:
		memcpy(to, range, sizeof(*range));
		return;
	case FLAGS:
		value = fuzz_next(random) & field->most;
		break;
	case MOVES:
		value = fuzz_next(random) & field->most;
		if (!thread->process->huge)
			value &= ~HUGE_MOVES;
		break;
	case NUMBER:
		value = fuzz_below(random, field->most + 1);
		break;
	case POSITIVE:
		value = 1 + fuzz_below(random, field->most);
		break;
	case FEW:
		if (fuzz_percent(random, 30))
			value = 2 + fuzz_below(random, field->most - 1);
		break;
	case ADDRESS:
		value = range->addr;
		break;
	case BUFFER:
		value = pick_buffer(thread);
		break;
	case COUNT:
		value = range->length / page_size;
		break;
	case OUT:
		value = fuzz_next(random);
		break;
	case END:
		break;
	}
	memcpy(to, &value, field->size);
}

static void put_fields(struct fuzz_thread *thread,
		       const struct request *request,
		       const struct fuzz_range *range, unsigned char *bytes,
		       bool again)
{
	bool huge = thread->process->huge;
	const struct field *field;

	/* Again: what a mutation must not have changed. */
	for (field = request->fields; field->kind != END; field++)
		if (!again || field->kind == FEW ||
		    (field->kind == MOVES && !huge))
			put_field(thread, field, range, bytes +
				  (field->member - request->structure));
}

/* Writes something anywhere: flags, reserved members, ranges, all the same. */
static void mutate(struct fuzz_random *random, unsigned char *bytes,
		   size_t size)
{
	const __u64 values[] = {
		1, 2, 3, 15, 31, ~0ULL, 1ULL << 31, 1ULL << 32, 1ULL << 63,
		-page_size, FUZZ_ARENA, FUZZ_ARENA + FUZZ_ARENA_SIZE,
		0x7ffffffff000ULL, HMM_HARNESS_MAX_LENGTH,
		HMM_HARNESS_MAX_LENGTH + page_size, 0xffffffffULL,
		fuzz_next(random), fuzz_next(random) & -page_size,
	};
	size_t width = fuzz_percent(random, 50) ? 8 : 4;
	__u64 value = values[fuzz_below(random, ARRAY_SIZE(values))];

	memcpy(bytes + fuzz_below(random, size / width) * width, &value, width);
}

/* Writes the number of the allocation that is to fail; 0: none. */
static void fail_allocation(struct fuzz_thread *thread, unsigned int number)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%u", number);

	if (pwrite(thread->fail, text, length, 0) != length)
		report_error("fail-nth", errno, "%u", number);
}

static int answer_of(struct fuzz_thread *thread, int fd, unsigned long number,
		     void *argument)
{
	struct fuzz_random *random = &thread->random;
	int ret, error;
	bool fail;

	fail = thread->fail >= 0 &&
	       fuzz_percent(random, thread->process->fail_percent);
	if (fail)
		fail_allocation(thread, 1 + fuzz_below(random, 24));
	ret = ioctl(fd, number, argument);
	error = errno;
	if (fail)
		fail_allocation(thread, 0);
	return ret < 0 ? error : -ret;
}

/* A descriptor may be another thread's to close: EBADF is its business. */
static bool promised(size_t index, int error)
{
	if (index == UNKNOWN)
		return error == ENOTTY || error == EBADF;
	if (!error || error == EBADF)
		return true;
	return error > 0 && requests[index].errors & ERROR(error);
}

static void count_answer(struct fuzz_thread *thread, size_t index, int error,
			 const unsigned char *bytes, size_t size)
{
	struct fuzz_shared *shared = thread->process->shared;
	char text[2 * MAX_SIZE + 1] = "";
	size_t i;

	atomic_fetch_add(&shared->calls, 1);
	atomic_fetch_add(&shared->request[index].calls, 1);
	if (!error)
		atomic_fetch_add(&shared->request[index].good, 1);
	if (error >= 0 && error < FUZZ_ERRNOS)
		atomic_fetch_add(&shared->answer[error], 1);
	if (promised(index, error))
		return;
	atomic_fetch_add(&shared->wrong, 1);
	for (i = 0; i < size && i < 128; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
	report_error("answer", error > 0 ? error : 0, "%s answered %d to %s",
		     index == UNKNOWN ? "an unknown request" :
		     requests[index].name, error, text);
}

static int pick_file(struct fuzz_thread *thread)
{
	struct fuzz_process *process = thread->process;
	struct fuzz_random *random = &thread->random;
	int fd = -1, tries;

	if (fuzz_percent(random, 12))
		return process->foreign[fuzz_below(random, process->devices)];
	for (tries = 0; fd < 0 && tries < FUZZ_FILES; tries++)
		fd = atomic_load(&process->files[fuzz_below(random,
							    FUZZ_FILES)]);
	return fd;
}

/* The same numbers as ours mostly, with another size or direction. */
static unsigned long unknown_request(struct fuzz_random *random)
{
	unsigned long number;
	size_t i;

again:
	number = _IOC(fuzz_below(random, 4), HMM_HARNESS_IOC_MAGIC,
		      fuzz_below(random, 48), fuzz_below(random, 300));
	for (i = 0; i < ARRAY_SIZE(requests); i++)
		if (requests[i].number == number)
			goto again;
	return number;
}

void fuzz_call(struct fuzz_thread *thread)
{
	struct fuzz_random *random = &thread->random;
	__u64 words[MAX_SIZE / sizeof(__u64)] = { 0 };
	unsigned char *bytes = (unsigned char *)words;
	struct fuzz_range range;
	size_t index = pick_request(random), size;
	const struct request *request = &requests[index];
	unsigned long number = request->number;
	void *argument = words;
	unsigned int dice;
	int fd;

	/* Often the last one again: a hold waits for just its range. */
	if (!fuzz_percent(random, 55))
		thread->range = fuzz_range(random);
	range = thread->range;
	size = _IOC_SIZE(number);
	put_fields(thread, request, &range, bytes, false);
	if (fuzz_percent(random, 15)) {
		mutate(random, bytes, size);
		put_fields(thread, request, &range, bytes, true);
	}

	dice = fuzz_below(random, 100);
	if (dice < 3) {
		argument = (void *)bad_pointer(random);
	} else if (dice < 10) {
		/* In memory that may be on a device, or gone. */
		argument = (void *)arena_pointer(random);
		fuzz_copy(argument, bytes, size);
	}
	if (fuzz_percent(random, 2)) {
		index = UNKNOWN;
		number = unknown_request(random);
	}
	fd = pick_file(thread);
	count_answer(thread, index, answer_of(thread, fd, number, argument),
		     bytes, size);
}

/* Closes one of the files and opens another in its place. */
void fuzz_open(struct fuzz_thread *thread)
{
	struct fuzz_process *process = thread->process;
	atomic_int *file =
		&process->files[fuzz_below(&thread->random, FUZZ_FILES)];
	unsigned int device = fuzz_below(&thread->random, process->devices);
	struct hmm_harness_attach argument = { 0 };
	int fd = atomic_exchange(file, -1);

	if (fd >= 0)
		close(fd);
	fd = open_device(device);
	if (fd >= 0 && !fuzz_percent(&thread->random, 8))
		ioctl(fd, HMM_HARNESS_ATTACH, &argument);
	fd = atomic_exchange(file, fd);
	if (fd >= 0)
		close(fd);
}
