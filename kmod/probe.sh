#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Arguments: the folder of the probes, the compiler, its flags.
#
# Writes to standard output the macros that compat.h chooses by.  Each question
# has alternatives, one small source file each; the first that compiles is the
# answer.  Nothing is concluded from a version number.

set -u

probes=$1
shift
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

compiles() {
	"$@" -Werror -Wno-unused -Wno-missing-prototypes \
		-Wno-missing-declarations -DMODULE \
		-DKBUILD_BASENAME='"probe"' -DKBUILD_MODNAME='"probe"' \
		-D__KBUILD_MODNAME=probe -DKBUILD_MODFILE='"probe"' \
		-fsyntax-only "$source" 2>>"$log"
}

# must QUESTION ALTERNATIVE...: exactly one answer, or the build ends here.
must() {
	question=$1
	alternatives=$2
	shift 2
	: >"$log"
	for name in $alternatives; do
		source=$probes/$name.c
		if compiles "$@"; then
			define "$name" 1
			return
		fi
	done
	{
		echo "hmm_harness: error: $question: no known alternative compiles"
		echo "hmm_harness: tried: $alternatives; the compiler said:"
		grep -m 12 -E 'error|warning' "$log"
	} >&2
	exit 1
}

# may NAME: a feature the kernel has or lacks.
may() {
	name=$1
	shift
	source=$probes/$name.c
	if compiles "$@"; then
		define "$name" 1
	else
		define "$name" 0
	fi
}

define() {
	echo "#define HH_$(echo "$1" | tr 'a-z-' 'A-Z_') $2"
}

echo "/* Generated: what this kernel offers, found by compiling. */"
must "HMM and device-private memory in this kernel" "base" "$@"
must "how a device page is given back" \
	"free-folio free-page" "$@"
must "how a device page is made ready" \
	"init-page-pgmap-order init-page-order init-page" "$@"
must "how the pagemap of a device page is found" \
	"pgmap-function pgmap-member" "$@"
must "the name of the per-CPU workqueue of the system" \
	"percpu-wq percpu-wq-old" "$@"
may "range-fault-unlocked" "$@"
may "compound" "$@"
