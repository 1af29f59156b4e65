// SPDX-License-Identifier: GPL-2.0-only
/* What scenarios do with the module; whatever fails is reported. */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "hmm_harness.h"
#include "stressor.h"

int attach_device(unsigned int index)
{
	struct hmm_harness_attach attach = { 0 };
	int fd = open_device(index);

	if (fd >= 0 && !ioctl(fd, HMM_HARNESS_ATTACH, &attach))
		return fd;
	report_error("device", errno, "/dev/hmm_harness%u", index);
	return -1;
}

char *map_pages(size_t pages)
{
	char *memory = mmap(NULL, pages * page_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		report_error("mmap", errno, "%zu pages", pages);
		return NULL;
	}
	/* EINVAL: a kernel without huge pages. */
	if (madvise(memory, pages * page_size, MADV_NOHUGEPAGE) &&
	    errno != EINVAL) {
		report_error("madvise", errno, "MADV_NOHUGEPAGE");
		return NULL;
	}
	return memory;
}

char *map_huge(size_t count)
{
	char *start = mmap(NULL, (count + 1) * HUGE_SIZE,
			   PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start != MAP_FAILED)
		return start + (-(uintptr_t)start & (HUGE_SIZE - 1));
	report_error("mmap", errno, "%zu huge pages", count);
	return NULL;
}

void *map_shared(size_t size)
{
	void *shared = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared != MAP_FAILED)
		return shared;
	report_error("mmap", errno, "%zu bytes", size);
	return NULL;
}

int device_stats(int fd, struct hmm_harness_stats *stats)
{
	*stats = (struct hmm_harness_stats){ 0 };
	if (!ioctl(fd, HMM_HARNESS_STATS, stats))
		return EXIT_DONE;
	report_error("ioctl", errno, "STATS");
	return EXIT_ENVIRONMENT;
}

__u64 device_clock_ns(int fd)
{
	struct hmm_harness_stats stats;

	return device_stats(fd, &stats) ? 0 : stats.clock_ns;
}

int device_behave(int fd, struct hmm_harness_behave *behave)
{
	if (!ioctl(fd, HMM_HARNESS_BEHAVE, behave))
		return EXIT_DONE;
	report_error("ioctl", errno, "BEHAVE");
	return EXIT_ENVIRONMENT;
}

/* A page may be in use for a moment, by a drain or a scan. */
int move_to_device(int fd, const char *memory, size_t pages)
{
	struct hmm_harness_migrate migrate;
	unsigned int attempt;
	size_t moved = 0;

	for (attempt = 0; attempt < 100; attempt++) {
		migrate = (struct hmm_harness_migrate){
			.addr = (uintptr_t)memory,
			.length = pages * page_size,
		};
		if (ioctl(fd, HMM_HARNESS_MIGRATE_TO_DEVICE, &migrate)) {
			report_error("ioctl", errno, "MIGRATE_TO_DEVICE");
			return EXIT_ENVIRONMENT;
		}
		moved += migrate.migrated;
		if (moved == pages)
			return EXIT_DONE;
	}
	report_error("device", 0, "only %zu of %zu pages moved to the device",
		     moved, pages);
	return EXIT_ENVIRONMENT;
}

int check_content(const char *process, __u64 iteration, const char *memory,
		  size_t pages, __u64 key)
{
	struct mismatch mismatch;

	if (pattern_verify(memory, 0, pages, key, &mismatch))
		return EXIT_DONE;
	report_corruption(process, iteration, memory, &mismatch);
	return EXIT_CORRUPTION;
}

void wait_until_held(int fd, atomic_uint *passed)
{
	struct hmm_harness_window window = { 0 };
	const struct timespec pause = { .tv_nsec = 200000 };

	while (!ioctl(fd, HMM_HARNESS_WINDOW, &window) &&
	       window.held != HMM_HARNESS_HELD_WAITING &&
	       !atomic_load(passed))
		nanosleep(&pause, NULL);
}
