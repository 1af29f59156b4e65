// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every 8-byte word of every page has a value of its own: a function of a key
 * (seed and iteration), the page's number and the word's number.
 */
#include "stressor.h"

#define WORD_STEP	0x9e3779b97f4a7c15ULL

/* Sebastiano Vigna's finalizer constants; any good mixer would do. */
__u64 mix64(__u64 value)
{
	value += WORD_STEP;
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
	value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
	return value ^ (value >> 31);
}

static __u64 page_base(__u64 key, size_t page)
{
	return mix64(key ^ mix64(page));
}

/* first is the number of the page at memory. */
void pattern_fill(void *memory, size_t first, size_t pages, __u64 key)
{
	size_t page, word, words = page_size / sizeof(__u64);
	__u64 *to = memory;

	for (page = first; page < first + pages; page++) {
		__u64 value = page_base(key, page);

		for (word = 0; word < words; word++, value += WORD_STEP)
			*to++ = value;
	}
}

bool pattern_verify(const void *memory, size_t first, size_t pages,
		    __u64 key, struct mismatch *mismatch)
{
	size_t page, word, words = page_size / sizeof(__u64);
	const __u64 *from = memory;

	for (page = first; page < first + pages; page++) {
		__u64 value = page_base(key, page);

		for (word = 0; word < words; word++, value += WORD_STEP) {
			__u64 found = *from++;

			if (found == value)
				continue;
			mismatch->page = page;
			mismatch->offset = word * sizeof(__u64);
			mismatch->expected = value;
			mismatch->found = found;
			return false;
		}
	}
	return true;
}

/* Nothing but a read, which the compiler cannot see through from elsewhere. */
__u64 first_word(const void *memory)
{
	return *(const __u64 *)memory;
}

/* memory is the address of page 0. */
void report_corruption(const char *process, __u64 iteration,
		       const void *memory, const struct mismatch *mismatch)
{
	struct json json;

	json_begin(&json, "corruption");
	json_string(&json, "process", process);
	json_number(&json, "iteration", iteration);
	json_number(&json, "page", mismatch->page);
	json_number(&json, "offset", mismatch->offset);
	json_number(&json, "address", (uintptr_t)memory +
		    mismatch->page * page_size + mismatch->offset);
	json_number(&json, "expected", mismatch->expected);
	json_number(&json, "found", mismatch->found);
	json_send(&json);
}

void report_signal(const char *process, __u64 iteration, const siginfo_t *info)
{
	struct json json;

	json_begin(&json, "corruption");
	json_string(&json, "process", process);
	json_number(&json, "iteration", iteration);
	json_number(&json, "signal", info->si_signo);
	json_number(&json, "address", (uintptr_t)info->si_addr);
	json_send(&json);
}
