// SPDX-License-Identifier: GPL-2.0-only
/* Figures that are collected one by one. */
#include <stdlib.h>

#include "stressor.h"

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

bool samples_add(struct samples *samples, double value)
{
	double *values;
	size_t room;

	if (samples->count == samples->room) {
		room = samples->room ? 2 * samples->room : 64;
		values = realloc(samples->values, room * sizeof(*values));
		if (!values) {
			report_error("memory", 0, "no room for %zu samples",
				     room);
			return false;
		}
		samples->values = values;
		samples->room = room;
	}
	samples->values[samples->count++] = value;
	return true;
}

double samples_median(struct samples *samples)
{
	size_t half = samples->count / 2;

	if (!samples->count)
		return 0;
	qsort(samples->values, samples->count, sizeof(double), compare);
	if (samples->count % 2)
		return samples->values[half];
	return (samples->values[half - 1] + samples->values[half]) / 2;
}

double samples_max(const struct samples *samples)
{
	double max = 0;
	size_t i;

	for (i = 0; i < samples->count; i++)
		if (samples->values[i] > max)
			max = samples->values[i];
	return max;
}
