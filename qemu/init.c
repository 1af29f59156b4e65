// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's init: mounts what is needed, finds the port to the host, says
 * hello, does what /plan says line by line, and ends the machine.
 *
 *   sysctl NAME VALUE         write /proc/sys/NAME (dots are taken as slashes)
 *   write FILE VALUE          the rest of the line goes to FILE
 *   insmod FILE [PARAMETERS]
 *   rmmod NAME
 *   sleep SECONDS
 *   print FILE                its lines go to the kernel's log, and so to the
 *                             console: a report, to be judged like any other
 *   exec PATH [ARGUMENT...]   standard output is the port
 *   shell                     on the console, until it exits
 *   poweroff
 *   port=ttyS1                anywhere: use that when there is no virtio port
 *
 * Messages are JSON lines; a verb that fails sends "error" and ends the run.
 *
 * Where it is not PID 1, it is the agent on a distribution that runs already:
 *
 *   init FOLDER OUTPUT
 *
 * says the number of the process that goes on in the background, which writes
 * to OUTPUT what the port gets elsewhere.  The plan is FOLDER/plan, and what it
 * loads or runs is in FOLDER.  Nothing is mounted, and poweroff ends the agent
 * only.  After its hello it waits for SIGCONT: whoever listens has heard by
 * then what it runs on.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PROTOCOL	1
#define PORT_NAME	"hmm.agent"
#define PORT_WAIT_MS	5000
#define MAX_ARGUMENTS	128
#define MAX_LOG_LINES	12
#define CALIBRATION_MS	40
#define CALIBRATION_STEP	5000

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

static int port = -1;
/* Where the agent's files are; NULL: this is PID 1, and they are in "/". */
static const char *folder;

/* --- messages ------------------------------------------------------------ */

struct message {
	size_t length;
	char text[16384];
};

/* What does not fit is left out; put_string() keeps room for the end. */
[[gnu::format(printf, 2, 3)]]
static void put(struct message *message, const char *format, ...)
{
	size_t room = sizeof(message->text) - message->length;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(message->text + message->length, room, format,
			   arguments);
	va_end(arguments);
	if (length > 0 && (size_t)length < room)
		message->length += length;
}

static void put_string(struct message *message, const char *value)
{
	const unsigned char *c = (const unsigned char *)value;

	put(message, "\"");
	for (; *c && message->length < sizeof(message->text) - 512; c++) {
		if (*c == '"' || *c == '\\')
			put(message, "\\%c", *c);
		else if (*c < 0x20 || *c >= 0x7f)
			put(message, "\\u%04x", *c);
		else
			put(message, "%c", *c);
	}
	put(message, "\"");
}

static long long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void begin(struct message *message, const char *type)
{
	long long now = now_us();

	message->length = 0;
	put(message, "{\"type\":\"%s\",\"t\":%lld.%06lld", type,
	    now / 1000000, now % 1000000);
}

static void add_string(struct message *message, const char *key,
		       const char *value)
{
	put(message, ",\"%s\":", key);
	put_string(message, value);
}

static void add_number(struct message *message, const char *key,
		       long long value)
{
	put(message, ",\"%s\":%lld", key, value);
}

static void finish(struct message *message)
{
	int fd = port < 0 ? STDOUT_FILENO : port;
	size_t sent = 0;

	put(message, "}\n");
	while (sent < message->length) {
		ssize_t n = write(fd, message->text + sent,
				  message->length - sent);

		if (n < 0 && errno != EINTR)
			return;
		if (n > 0)
			sent += n;
	}
}

/* Always false, so that a verb can end with it. */
static bool fails(const char *what, int error, const char *text)
{
	static struct message message;
	char with_reason[4096];

	snprintf(with_reason, sizeof(with_reason), "%s%s%s", text,
		 error ? ": " : "", error ? strerror(error) : "");
	begin(&message, "error");
	add_string(&message, "what", what);
	add_number(&message, "errno", error);
	add_string(&message, "text", with_reason);
	finish(&message);
	return false;
}

/* --- small files ---------------------------------------------------------- */

/* The first bytes of a file as a string without its last newline. */
static bool read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t n = 0;

	buffer[0] = '\0';
	if (fd < 0)
		return false;
	while (length < size - 1 &&
	       (n = read(fd, buffer + length, size - 1 - length)) > 0)
		length += n;
	close(fd);
	buffer[length] = '\0';
	if (length && buffer[length - 1] == '\n')
		buffer[length - 1] = '\0';
	return n >= 0;
}

static bool write_file(const char *what, const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t length = strlen(value);
	bool good;
	int error;

	if (fd < 0)
		return fails(what, errno, path);
	good = write(fd, value, length) == (ssize_t)length;
	error = good ? 0 : errno;
	close(fd);
	return good || fails(what, error, path);
}

/* A file of the plan, where it is. */
static const char *place_of(const char *path)
{
	static char place[PATH_MAX];

	if (!folder)
		return path;
	snprintf(place, sizeof(place), "%s%s%s", folder,
		 *path == '/' ? "" : "/", path);
	return access(place, F_OK) ? path : place;
}

/* The word between two marks, in place; NULL if there is none. */
static char *between(char *text, char left, char right)
{
	char *start = strchr(text, left);
	char *end = start ? strchr(start, right) : NULL;

	if (!end)
		return NULL;
	*end = '\0';
	return start + 1;
}

/* --- the port -------------------------------------------------------------- */

static bool find_virtio_port(char *path, size_t size)
{
	static const char folder[] = "/sys/class/virtio-ports";
	DIR *ports = opendir(folder);
	struct dirent *entry;
	bool found = false;

	while (ports && !found && (entry = readdir(ports))) {
		char file[320], name[64];

		snprintf(file, sizeof(file), "%s/%s/name", folder,
			 entry->d_name);
		if (entry->d_name[0] == '.' ||
		    !read_file(file, name, sizeof(name)) ||
		    strcmp(name, PORT_NAME))
			continue;
		snprintf(path, size, "/dev/%s", entry->d_name);
		found = true;
	}
	if (ports)
		closedir(ports);
	return found;
}

static void open_serial_port(const char *path)
{
	struct termios terms;

	port = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
	if (port < 0 || tcgetattr(port, &terms))
		return;
	cfmakeraw(&terms);
	cfsetspeed(&terms, B115200);
	tcsetattr(port, TCSANOW, &terms);
}

/* The name of a virtio port arrives from the host some time after boot. */
static void open_port(const char *plan)
{
	bool serial = strstr(plan, "port=ttyS1");
	int waited;

	for (waited = 0; waited < PORT_WAIT_MS; waited += 2) {
		char path[320];

		if (find_virtio_port(path, sizeof(path))) {
			port = open(path, O_WRONLY | O_CLOEXEC);
			if (port >= 0)
				return;
		}
		if (serial)
			break;
		usleep(2000);
	}
	if (serial)
		open_serial_port("/dev/ttyS1");
	if (port < 0)
		fprintf(stderr, "init: no port named " PORT_NAME "\n");
}

/*
 * How much work fits into a time: rounds of a small loop, counted from an edge
 * of the clock to the first one CALIBRATION_MS later, for the clock may have no
 * finer grain than the tick.  Bounded in time, so that it costs a slow machine
 * no more than a fast one.
 */
static void add_calibration(struct message *message)
{
	static unsigned int sink;
	long long begin, now, loops = 0;
	int i;

	now = now_us();
	do {
		begin = now_us();
	} while (begin == now);
	do {
		for (i = 0; i < CALIBRATION_STEP; i++) {
			sink++;
			__asm__ volatile("" : "+m" (sink));
		}
		loops += CALIBRATION_STEP;
		now = now_us();
	} while (now - begin < CALIBRATION_MS * 1000);
	add_number(message, "calibration_loops", loops);
	put(message, ",\"calibration_ms\":%lld.%03lld", (now - begin) / 1000,
	    (now - begin) % 1000);
}

static void say_hello(void)
{
	static struct message message;
	static char text[4096];
	struct utsname name;
	struct sysinfo memory;
	char *word;

	uname(&name);
	sysinfo(&memory);
	begin(&message, "hello");
	add_number(&message, "protocol", PROTOCOL);
	add_string(&message, "release", name.release);
	add_string(&message, "version", name.version);
	add_string(&message, "machine", name.machine);
	/* The model in force is the one in parentheses. */
	read_file("/sys/kernel/debug/sched/preempt", text, sizeof(text));
	word = between(text, '(', ')');
	add_string(&message, "preempt", word ? word : "unknown");
	add_number(&message, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
	add_number(&message, "page_size", sysconf(_SC_PAGESIZE));
	add_number(&message, "mem_kb", (unsigned long long)memory.totalram *
		   memory.mem_unit / 1024);
	read_file("/sys/kernel/mm/transparent_hugepage/enabled", text,
		  sizeof(text));
	word = between(text, '[', ']');
	add_string(&message, "thp", word ? word : "unknown");
	add_calibration(&message);
	read_file("/proc/cmdline", text, sizeof(text));
	add_string(&message, "cmdline", text);
	finish(&message);
}

/* --- verbs ----------------------------------------------------------------- */

static bool do_sysctl(char *name, char *value)
{
	char path[512], *c;

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	if (!strchr(name, '/'))
		for (c = path; *c; c++)
			if (*c == '.')
				*c = '/';
	return write_file("sysctl", path, value);
}

/* "/lib/some-module.ko" is called some_module in the log. */
static void module_name(const char *file, char *name, size_t size)
{
	const char *slash = strrchr(file, '/');
	char *c;

	snprintf(name, size, "%s", slash ? slash + 1 : file);
	for (c = name; *c; c++) {
		if (*c == '-')
			*c = '_';
		if (*c == '.')
			*c = '\0';
	}
}

/* Appends the last lines that the kernel logged since and that say name. */
static void append_log(int log, const char *name, char *text, size_t size)
{
	static char lines[MAX_LOG_LINES][256];
	size_t count = 0, i, length = strlen(text);

	for (;;) {
		char record[2048], *message, *end;
		ssize_t n = read(log, record, sizeof(record) - 1);

		if (n < 0 && errno == EPIPE)
			continue;	/* overwritten meanwhile: on to the next */
		if (n <= 0)
			break;
		record[n] = '\0';
		message = strchr(record, ';');
		message = message ? message + 1 : record;
		end = strchr(message, '\n');
		if (end)
			*end = '\0';
		if (!strstr(message, name))
			continue;
		snprintf(lines[count++ % MAX_LOG_LINES], sizeof(lines[0]), "%.255s",
			 message);
	}
	for (i = count > MAX_LOG_LINES ? count - MAX_LOG_LINES : 0; i < count;
	     i++) {
		snprintf(text + length, size - length, "\n%s",
			 lines[i % MAX_LOG_LINES]);
		length = strlen(text);
	}
}

/* Where a module's parts are, for whoever reads its addresses. */
static void say_module(const char *name)
{
	static const char *const sections[] = { "text", "data", "bss" };
	static struct message message;
	char path[256], address[32];
	size_t i;

	begin(&message, "module");
	add_string(&message, "name", name);
	for (i = 0; i < ARRAY_SIZE(sections); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/sections/.%s",
			 name, sections[i]);
		if (read_file(path, address, sizeof(address)) && address[0])
			add_string(&message, sections[i], address);
	}
	finish(&message);
}

static bool do_insmod(const char *file, const char *parameters)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int fd = open(place_of(file), O_RDONLY | O_CLOEXEC);
	static struct message message;
	char text[4096], name[128];
	int error = 0;

	if (fd < 0) {
		error = errno;
		if (log >= 0)
			close(log);
		return fails("insmod", error, file);
	}
	if (log >= 0)
		lseek(log, 0, SEEK_END);
	if (syscall(SYS_finit_module, fd, parameters, 0))
		error = errno;
	close(fd);
	module_name(file, name, sizeof(name));
	if (error) {
		snprintf(text, sizeof(text), "%s: %s", file, strerror(error));
		if (log >= 0)
			append_log(log, name, text, sizeof(text));
		begin(&message, "error");
		add_string(&message, "what", "insmod");
		add_number(&message, "errno", error);
		add_string(&message, "text", text);
		finish(&message);
	}
	if (log >= 0)
		close(log);
	if (!error)
		say_module(name);
	return !error;
}

static bool do_rmmod(const char *name)
{
	if (syscall(SYS_delete_module, name, O_NONBLOCK))
		return fails("rmmod", errno, name);
	return true;
}

static bool do_sleep(const char *text)
{
	struct timespec left = { 0 };
	char *end;

	left.tv_sec = strtol(text, &end, 10);
	if (*end || left.tv_sec < 0)
		return fails("sleep", EINVAL, text);
	while (nanosleep(&left, &left))
		if (errno != EINTR)
			return fails("sleep", errno, text);
	return true;
}

/* Each line as an error, so that no log level hides it. */
static bool do_print(const char *path)
{
	FILE *file = fopen(path, "re");
	FILE *log = fopen("/dev/kmsg", "we");
	char line[512];
	bool good;

	/* One record a write, and as many as there are; the newline is needed. */
	good = file && log &&
	       !setvbuf(log, NULL, _IOLBF, 2 * sizeof(line)) &&
	       write_file("print", "/proc/sys/kernel/printk_devkmsg", "on\n");
	while (good && fgets(line, sizeof(line), file))
		fprintf(log, "<3>%s", line);
	good = good && !ferror(file) && !ferror(log);
	if (!good)
		fails("print", errno, path);
	if (file)
		fclose(file);
	if (log)
		fclose(log);
	return good;
}

/* As PID 1 also collects orphans while it waits. */
static int wait_for(pid_t pid)
{
	int status;
	pid_t done;

	do {
		done = waitpid(-1, &status, 0);
	} while (done != pid && (done > 0 || errno == EINTR));
	return done == pid ? status : -1;
}

static bool do_exec(char **arguments)
{
	static struct message message;
	int pipes[2], status, error = 0;
	pid_t pid;

	/* The pipe closes on a good exec and carries errno on a bad one. */
	if (pipe2(pipes, O_CLOEXEC))
		return fails("exec", errno, arguments[0]);
	pid = fork();
	if (pid < 0) {
		error = errno;
		close(pipes[0]);
		close(pipes[1]);
		return fails("exec", error, arguments[0]);
	}
	if (!pid) {
		if (port >= 0)
			dup2(port, STDOUT_FILENO);
		execv(place_of(arguments[0]), arguments);
		error = errno;
		if (write(pipes[1], &error, sizeof(error)) < 0)
			_exit(126);
		_exit(127);
	}
	close(pipes[1]);
	if (read(pipes[0], &error, sizeof(error)) != sizeof(error))
		error = 0;
	close(pipes[0]);
	status = wait_for(pid);
	if (error)
		return fails("exec", error, arguments[0]);

	begin(&message, "exit");
	add_string(&message, "path", arguments[0]);
	add_number(&message, "status",
		   WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	add_number(&message, "signal",
		   WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	finish(&message);
	return true;
}

/*
 * /dev/console cannot be a controlling terminal, without which ^C and job
 * control do not work: take the device behind it, the last one listed.
 */
static bool do_shell(void)
{
	static char *const argv[] = { "sh", "-l", NULL };
	char active[256], path[300], *last;
	pid_t pid;

	if (folder)
		return fails("shell", ENOTTY, "no console of the agent's own");
	if (access("/bin/busybox", X_OK))
		return fails("shell", errno, "/bin/busybox");
	if (!read_file("/sys/class/tty/console/active", active,
		       sizeof(active)) || !active[0])
		return fails("shell", ENOTTY, "no console");
	last = strrchr(active, ' ');
	snprintf(path, sizeof(path), "/dev/%s", last ? last + 1 : active);

	pid = fork();
	if (pid < 0)
		return fails("shell", errno, "fork");
	if (!pid) {
		int tty;

		setsid();
		tty = open(path, O_RDWR);
		if (tty < 0)
			_exit(126);
		ioctl(tty, TIOCSCTTY, 0);
		dup2(tty, STDIN_FILENO);
		dup2(tty, STDOUT_FILENO);
		dup2(tty, STDERR_FILENO);
		if (tty > STDERR_FILENO)
			close(tty);
		execv("/bin/busybox", argv);
		_exit(127);
	}
	wait_for(pid);
	return true;
}

static void do_poweroff(void)
{
	if (folder)
		exit(0);
	sync();
	if (port >= 0)
		tcdrain(port);
	/* Without ACPI a reset is all there is; QEMU's -no-reboot ends on it. */
	if (!access("/sys/firmware/acpi", F_OK))
		reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

/* Splits off the next blank-separated word; "" at the end. */
static char *next_word(char **rest)
{
	char *word = *rest + strspn(*rest, " \t");
	char *end = word + strcspn(word, " \t");

	if (*end)
		*end++ = '\0';
	*rest = end + strspn(end, " \t");
	return word;
}

static bool do_line(char *line)
{
	char *verb = next_word(&line);
	char *arguments[MAX_ARGUMENTS + 1], *first, text[64];
	size_t count = 0;

	if (!*verb || *verb == '#' || !strncmp(verb, "port=", 5))
		return true;
	if (!strcmp(verb, "poweroff"))
		do_poweroff();
	if (!strcmp(verb, "shell"))
		return do_shell();

	first = next_word(&line);
	if (!*first)
		return fails("plan", EINVAL, verb);
	if (!strcmp(verb, "sysctl"))
		return do_sysctl(first, line);
	if (!strcmp(verb, "write"))
		return write_file("write", first, line);
	if (!strcmp(verb, "insmod"))
		return do_insmod(first, line);
	if (!strcmp(verb, "rmmod"))
		return do_rmmod(first);
	if (!strcmp(verb, "sleep"))
		return do_sleep(first);
	if (!strcmp(verb, "print"))
		return do_print(first);
	if (strcmp(verb, "exec")) {
		snprintf(text, sizeof(text), "%.40s: no such verb", verb);
		return fails("plan", 0, text);
	}
	arguments[count++] = first;
	while (*line && count < MAX_ARGUMENTS)
		arguments[count++] = next_word(&line);
	if (*line)
		return fails("plan", E2BIG, first);
	arguments[count] = NULL;
	return do_exec(arguments);
}

static void mount_all(void)
{
	static const struct {
		const char *type, *where;
	} mounts[] = {
		{ "proc", "/proc" },
		{ "sysfs", "/sys" },
		{ "devtmpfs", "/dev" },
		{ "tmpfs", "/tmp" },
		{ "debugfs", "/sys/kernel/debug" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].where, 0755);
		if (mount(mounts[i].type, mounts[i].where, mounts[i].type, 0,
			  NULL) && errno != EBUSY)
			fprintf(stderr, "init: cannot mount %s: %s\n",
				mounts[i].where, strerror(errno));
	}
}

/* An initramfs without /dev/console starts init without descriptors. */
static void become_init(void)
{
	int console;

	mount_all();
	console = open("/dev/console", O_RDWR);
	if (console >= 0) {
		dup2(console, STDIN_FILENO);
		dup2(console, STDOUT_FILENO);
		dup2(console, STDERR_FILENO);
		if (console > STDERR_FILENO)
			close(console);
	}
	setenv("PATH", "/bin:/sbin", 1);
	setenv("HOME", "/", 1);
	setenv("TERM", "linux", 0);
}

/* Whoever started it may go away; it appends, so that OUTPUT can be followed. */
static void become_agent(const char *output)
{
	int null = open("/dev/null", O_RDWR);
	pid_t pid;

	port = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC,
		    0644);
	if (port < 0 || null < 0) {
		fprintf(stderr, "init: cannot write %s: %s\n", output,
			strerror(errno));
		exit(1);
	}
	pid = fork();
	if (pid < 0) {
		fprintf(stderr, "init: fork: %s\n", strerror(errno));
		exit(1);
	}
	if (pid) {
		printf("%d\n", pid);
		exit(0);
	}
	setsid();
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
}

int main(int argc, char **argv)
{
	static char plan[65536];
	char *line, *next;
	sigset_t heard;
	bool planned;

	if (getpid() == 1) {
		become_init();
	} else if (argc == 3) {
		folder = argv[1];
		become_agent(argv[2]);
	} else {
		fprintf(stderr, "usage: init FOLDER OUTPUT\n");
		return 2;
	}

	planned = read_file(place_of("/plan"), plan, sizeof(plan));
	if (!folder)
		open_port(plan);
	/* Blocked, it is kept: it may come before anybody waits. */
	sigemptyset(&heard);
	sigaddset(&heard, SIGCONT);
	if (folder)
		sigprocmask(SIG_BLOCK, &heard, NULL);
	say_hello();
	if (folder) {
		sigwaitinfo(&heard, NULL);
		sigprocmask(SIG_UNBLOCK, &heard, NULL);
	}
	if (!planned)
		fails("plan", ENOENT, place_of("/plan"));
	for (line = plan; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (!do_line(line))
			break;
	}
	do_poweroff();
}
