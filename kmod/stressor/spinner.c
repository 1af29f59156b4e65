// SPDX-License-Identifier: GPL-2.0-only
/*
 * The spinner of the trylock starvation: a child, or a thread, that faults the
 * device pages whose folios the holder has locked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trylock.h"

static void child_fails(const char *step, int error)
{
	run.shared->error = error;
	run.shared->error_step = step;
	if (trylock_threaded())
		pthread_exit(NULL);
	_exit(EXIT_ENVIRONMENT);
}

static bool all_zero(const char *memory, size_t length)
{
	return !memory[0] && !memcmp(memory, memory + 1, length - 1);
}

static int child_verify(void)
{
	struct mismatch mismatch;
	size_t i;

	/* Faulted in by the parent after the fork: never in the child. */
	for (i = 0; i < VALUE(SYSTEM_PAGES); i++) {
		if (all_zero(run.memory + i * page_size, page_size))
			continue;
		mismatch = (struct mismatch){ .page = i };
		memcpy(&mismatch.found, run.memory + i * page_size,
		       sizeof(mismatch.found));
		report_corruption("child", run.progress.iteration,
				  run.memory, &mismatch);
		return EXIT_CORRUPTION;
	}
	if (!pattern_verify(trylock_device_memory(), VALUE(SYSTEM_PAGES), VALUE(PAGES),
			    run.key, &mismatch)) {
		report_corruption("child", run.progress.iteration,
				  run.memory, &mismatch);
		return EXIT_CORRUPTION;
	}
	return EXIT_DONE;
}

/* No page beyond those that the holder has locked. */
static size_t fault_pages(void)
{
	if (trylock_threaded())
		return 1;
	return VALUE(FAULT_PAGES) < VALUE(PAGES) ? VALUE(FAULT_PAGES) :
						   VALUE(PAGES);
}

/* In a child of its own, or a thread. */
static void spin(__u64 steps)
{
	struct shared *shared = run.shared;
	struct hmm_harness_attach attach = { 0 };
	struct hmm_harness_fault fault = {
		.addr = (uintptr_t)run.approach,
		.length = (VALUE(APPROACH_PAGES) + VALUE(SYSTEM_PAGES) +
			   fault_pages()) * page_size,
		.owner = VALUE(OWNER) ? HMM_HARNESS_OWNER_NONE :
					HMM_HARNESS_OWNER_SELF,
		.entry = VALUE(ENTRY) ? HMM_HARNESS_ENTRY_UNLOCKED :
					HMM_HARNESS_ENTRY_LOCKED,
		.timeout_ms = VALUE(TIMEOUT_MS),
	};
	__u64 start;
	int fd, error;

	error = pin_to_cpu(VALUE(SPINNER_CPU));
	if (error)
		child_fails("pin the spinner to its CPU", error);
	error = set_policy(VALUE(POLICY), VALUE(PRIORITY));
	if (error)
		child_fails("set the spinner's policy", error);
	fd = open_device(VALUE(OWNER) ? 0 : 1);
	if (fd < 0)
		child_fails("open the spinner's device", errno);
	if (ioctl(fd, HMM_HARNESS_ATTACH, &attach))
		child_fails("attach the spinner", errno);
	set_and_wake(&shared->child, READY);

	wait_while(&shared->order, HOLD, 0);
	/* From here to the fault on the CPU: starts must lie close together. */
	set_and_wake(&shared->awake, 1);
	wait_while(&shared->order, WAKE, SPIN_NS);
	if (run.forced)
		wait_until_held(run.device, &run.shared->passed);
	trylock_delay(steps);
	start = now_ns();
	shared->fault_error = ioctl(fd, HMM_HARNESS_FAULT, &fault) ? errno : 0;
	shared->fault_ns = now_ns() - start;
	shared->fault_retries = fault.retries;
	if (!shared->fault_error)
		atomic_fetch_add(&shared->spinner_count, 1);
	close(fd);
	set_and_wake(&shared->child, DONE);
}

static void child(__u64 steps)
{
	int error;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	spin(steps);
	wait_while(&run.shared->order, GO, 0);
	error = child_verify();
	set_and_wake(&run.shared->child, VERIFIED);
	_exit(error);
}

static void *spinner(void *steps)
{
	spin(*(__u64 *)steps);
	return NULL;
}

int spinner_start(pid_t *pid, const __u64 *steps)
{
	int error;

	if (trylock_threaded()) {
		error = pthread_create(&run.spinner, NULL, spinner,
				       (void *)steps);
	} else {
		*pid = fork();
		if (!*pid)
			child(*steps);
		error = *pid < 0 ? errno : 0;
	}
	if (!error)
		return EXIT_DONE;
	report_error("fork", error, "no spinner");
	return EXIT_ENVIRONMENT;
}

bool spinner_passes(pid_t pid, __u32 step)
{
	int status;

	while (!wait_while_for(&run.shared->child, step, 200 * 1000000ULL)) {
		if (trylock_threaded() ? !run.shared->error_step :
				 waitpid(pid, &status, WNOHANG) != pid)
			continue;
		if (run.shared->error_step)
			report_error("spinner", run.shared->error, "cannot %s",
				     run.shared->error_step);
		else
			report_error("spinner", 0, "ended with status 0x%x",
				     status);
		return false;
	}
	return true;
}
