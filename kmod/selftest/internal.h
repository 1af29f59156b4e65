/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of hmm_selftest share. */
#ifndef HMM_SELFTEST_INTERNAL_H
#define HMM_SELFTEST_INTERNAL_H

#include <linux/compiler.h>
#include <linux/types.h>
#include <linux/wait.h>

struct task_struct;

struct hs_failure {
	const char *name;
	void (*provoke)(void);
	/* What another CPU does meanwhile. */
	void (*help)(void);
	bool needs_program;
};

/* provoke.c */
extern const struct hs_failure hs_failures[];
extern const size_t hs_nr_failures;

/* main.c */
extern unsigned int hs_cpu;
extern bool hs_released;
extern wait_queue_head_t hs_wait;

struct task_struct *hs_find_program(void);
void hs_sleep(unsigned int ms);

static inline bool hs_over(void)
{
	return READ_ONCE(hs_released);
}

#endif /* HMM_SELFTEST_INTERNAL_H */
