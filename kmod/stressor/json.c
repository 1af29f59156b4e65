// SPDX-License-Identifier: GPL-2.0-only
/* JSON lines on standard output. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "stressor.h"

[[gnu::format(printf, 2, 3)]]
static void put(struct json *json, const char *format, ...)
{
	size_t room = sizeof(json->text) - json->length;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(json->text + json->length, room, format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= room)
		json->overflow = true;
	else
		json->length += length;
}

static void put_string(struct json *json, const char *value)
{
	const unsigned char *c;

	put(json, "\"");
	for (c = (const unsigned char *)value; *c; c++) {
		if (*c == '"' || *c == '\\')
			put(json, "\\%c", *c);
		else if (*c < 0x20 || *c >= 0x7f)
			put(json, "\\u%04x", *c);
		else
			put(json, "%c", *c);
	}
	put(json, "\"");
}

void json_key(struct json *json, const char *key)
{
	if (json->comma)
		put(json, ",");
	json->comma = true;
	if (key) {
		put_string(json, key);
		put(json, ":");
	}
}

void json_number(struct json *json, const char *key, __u64 value)
{
	json_key(json, key);
	put(json, "%llu", (unsigned long long)value);
}

void json_signed(struct json *json, const char *key, __s64 value)
{
	json_key(json, key);
	put(json, "%lld", (long long)value);
}

void json_seconds(struct json *json, const char *key, double value)
{
	json_key(json, key);
	put(json, "%.6f", value);
}

void json_metric(struct json *json, const char *name, double value)
{
	json_key(json, name);
	put(json, "%.9g", value);
}

void json_bool(struct json *json, const char *key, bool value)
{
	json_key(json, key);
	put(json, "%s", value ? "true" : "false");
}

void json_string(struct json *json, const char *key, const char *value)
{
	json_key(json, key);
	put_string(json, value);
}

void json_open(struct json *json, const char *key, char bracket)
{
	json_key(json, key);
	put(json, "%c", bracket);
	json->comma = false;
}

void json_close(struct json *json, char bracket)
{
	put(json, "%c", bracket);
	json->comma = true;
}

void json_begin(struct json *json, const char *type)
{
	json->length = 0;
	json->comma = false;
	json->overflow = false;
	put(json, "{");
	json_string(json, "type", type);
	json_seconds(json, "t", now_seconds());
}

void json_begin_end(struct json *json, __u64 iterations, int status)
{
	json_begin(json, "end");
	json_number(json, "iterations", iterations);
	json_number(json, "status", status);
}

void json_send(struct json *json)
{
	size_t sent = 0;

	put(json, "}\n");
	if (json->overflow) {
		json_begin(json, "error");
		json_string(json, "what", "json");
		json_number(json, "errno", ENOBUFS);
		json_string(json, "text", "a line was too long and was left out");
		put(json, "}\n");
	}
	/* The loop is for files that take a part only: one write as a rule. */
	while (sent < json->length) {
		ssize_t n = write(STDOUT_FILENO, json->text + sent,
				  json->length - sent);

		if (n > 0) {
			sent += n;
		} else if (n < 0 && errno == EAGAIN) {
			struct pollfd port = { STDOUT_FILENO, POLLOUT, 0 };

			poll(&port, 1, -1);
		} else if (n == 0 || errno != EINTR) {
			return;
		}
	}
}

void report_error(const char *what, int error, const char *format, ...)
{
	char text[512];
	struct json json;
	va_list arguments;
	size_t length;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	length = strlen(text);
	if (error)
		snprintf(text + length, sizeof(text) - length, ": %s",
			 strerror(error));
	json_begin(&json, "error");
	json_string(&json, "what", what);
	json_signed(&json, "errno", error);
	json_string(&json, "text", text);
	json_send(&json);
}

void report_start(const struct scenario *scenario)
{
	const struct parameter *parameter;
	struct json json;

	json_begin(&json, "start");
	json_string(&json, "scenario", scenario->name);
	json_open(&json, "parameters", '{');
	for (parameter = scenario->parameters; parameter->name; parameter++) {
		if (parameter->choices == any_text)
			json_string(&json, parameter->name,
				    parameter_text(parameter));
		else if (parameter->choices)
			json_string(&json, parameter->name,
				    parameter->choices[parameter->value]);
		else
			json_number(&json, parameter->name, parameter->value);
	}
	json_close(&json, '}');
	json_send(&json);
}
