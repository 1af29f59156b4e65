// SPDX-License-Identifier: GPL-2.0-only
/*
 * hmm-stressor SCENARIO [NAME=VALUE...]
 *
 * Exercises hmm_harness.ko and tells on standard output, in JSON lines, how it
 * goes.  Exit status: 0 done, 1 corruption, 2 bad parameters, 3 environment,
 * 4 a wrong answer of the module.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stressor.h"

static const struct scenario *const scenarios[] = {
	&trylock_starvation,
	&trylock_starvation_forced,
	&pmd_trylock_starvation,
	&pmd_trylock_starvation_forced,
	&rt_spinner,
	&drain_pressure,
	&ioctl_check,
	&ioctl_fuzz,
	&idle,
	&slow_progress,
	&fault_cost,
	&fault_cost_shared,
	&upstream_hmm_tests,
	&upstream_hmm_tests_coherent,
	&churn_scenario,
	&refcount_livelock,
	&lock_hog,
	&failed_migration,
	&two_devices,
	&split_unmapped_folio,
	&zap_migration_entry,
	&stale_page_flags,
	&freed_anon_vma,
	&awaited_page_reuse,
	&xe_system_allocator,
};

const char *const any_text[] = { NULL };

void parameter_set_text(struct parameter *parameter, const char *text)
{
	parameter->value = (uintptr_t)text;
}

const char *parameter_text(const struct parameter *parameter)
{
	return (const char *)(uintptr_t)parameter->value;
}

static void show_help(void)
{
	const struct parameter *parameter;
	const char *const *choice;
	size_t i;

	fprintf(stderr, "usage: hmm-stressor SCENARIO [NAME=VALUE...]\n");
	for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
		fprintf(stderr, "\n%s: %s\n", scenarios[i]->name,
			scenarios[i]->help);
		for (parameter = scenarios[i]->parameters; parameter->name;
		     parameter++) {
			fprintf(stderr, "  %s=", parameter->name);
			if (parameter->choices == any_text) {
				fprintf(stderr, "(%s)",
					parameter_text(parameter));
			} else if (parameter->choices) {
				for (choice = parameter->choices; *choice;
				     choice++)
					fprintf(stderr, "%s%s", *choice,
						choice[1] ? "|" : "");
				fprintf(stderr, " (%s)",
					parameter->choices[parameter->value]);
			} else {
				fprintf(stderr, "%llu..%llu (%llu)",
					(unsigned long long)parameter->min,
					(unsigned long long)parameter->max,
					(unsigned long long)parameter->value);
			}
			fprintf(stderr, "  %s\n", parameter->help);
		}
	}
}

static bool set_number(struct parameter *parameter, const char *text)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 0);
	/* strtoull() takes a sign and blanks; a parameter has neither. */
	if (errno || *end || text[0] < '0' || text[0] > '9' ||
	    value < parameter->min || value > parameter->max) {
		report_error("parameter", 0, "%s=%s: must be a number %llu..%llu",
			     parameter->name, text,
			     (unsigned long long)parameter->min,
			     (unsigned long long)parameter->max);
		return false;
	}
	parameter->value = value;
	return true;
}

static bool set_choice(struct parameter *parameter, const char *text)
{
	char all[256] = "";
	size_t i;

	for (i = 0; parameter->choices[i]; i++) {
		if (!strcmp(parameter->choices[i], text)) {
			parameter->value = i;
			return true;
		}
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s",
			 i ? "|" : "", parameter->choices[i]);
	}
	report_error("parameter", 0, "%s=%s: must be %s", parameter->name, text,
		     all);
	return false;
}

static bool set_parameter(const struct scenario *scenario, const char *argument)
{
	const char *equals = strchr(argument, '=');
	size_t length = equals ? (size_t)(equals - argument) : 0;
	struct parameter *parameter;

	for (parameter = scenario->parameters; parameter->name; parameter++) {
		if (!equals || strlen(parameter->name) != length ||
		    strncmp(parameter->name, argument, length))
			continue;
		if (parameter->choices != any_text)
			return parameter->choices ?
				       set_choice(parameter, equals + 1) :
				       set_number(parameter, equals + 1);
		parameter_set_text(parameter, equals + 1);
		return true;
	}
	report_error("parameter", 0, "%s: %s has no such parameter", argument,
		     scenario->name);
	return false;
}

static bool is_cpu(const struct parameter *parameter)
{
	const char *last = strrchr(parameter->name, '_');

	return last && !strcmp(last, "_cpu");
}

/* Who is pinned to a CPU wants it for itself: the catalogue has the same rule. */
static int check_cpus(const struct scenario *scenario)
{
	const struct parameter *one, *other;

	for (one = scenario->parameters; one->name; one++) {
		for (other = scenario->parameters; other != one; other++) {
			if (!is_cpu(one) || !is_cpu(other) ||
			    one->value != other->value)
				continue;
			report_error("parameter", 0,
				     "%s=%llu: must differ from %s", one->name,
				     (unsigned long long)one->value,
				     other->name);
			return EXIT_PARAMETER;
		}
	}
	for (one = scenario->parameters; one->name; one++) {
		if (!is_cpu(one) || cpu_online(one->value))
			continue;
		report_error("cpu", 0, "%s=%llu: not online", one->name,
			     (unsigned long long)one->value);
		return EXIT_ENVIRONMENT;
	}
	return EXIT_DONE;
}

int main(int argc, char **argv)
{
	const struct scenario *scenario = NULL;
	bool good = true;
	size_t i;
	int n, ret;

	page_size = sysconf(_SC_PAGESIZE);
	for (i = 0; i < ARRAY_SIZE(scenarios); i++)
		if (scenarios[i]->defaults)
			scenarios[i]->defaults();
	for (i = 0; argc > 1 && i < ARRAY_SIZE(scenarios); i++)
		if (!strcmp(scenarios[i]->name, argv[1]))
			scenario = scenarios[i];
	if (!scenario) {
		report_error("parameter", 0, "%s: no such scenario",
			     argc > 1 ? argv[1] : "(none given)");
		show_help();
		return EXIT_PARAMETER;
	}
	for (n = 2; n < argc; n++)
		good &= set_parameter(scenario, argv[n]);
	if (!good)
		return EXIT_PARAMETER;
	ret = check_cpus(scenario);
	return ret ?: scenario->run(scenario);
}
