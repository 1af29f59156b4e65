#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Run by mmdebstrap on the new root, $1: this box's own files, its user, and nothing that a boot can do without.
set -eu
here=$(dirname -- "$0")

cp -R --no-preserve=ownership "$here/rootfs/." "$1/"
chmod 0440 "$1/etc/sudoers.d/lab"
chroot "$1" useradd --create-home --shell /bin/bash lab
chroot "$1" install -d -m 0700 -o lab -g lab /home/lab/.ssh
# Made anew for every box.
rm -f "$1"/etc/ssh/ssh_host_*
echo box >"$1/etc/hostname"
echo "127.0.0.1 localhost box" >"$1/etc/hosts"
# Else a reboot would go past GRUB, into the default kernel by kexec.
sed -i 's/^LOAD_KEXEC=.*/LOAD_KEXEC=false/' "$1/etc/default/kexec"

mkdir -p "$1/boot/grub"
cp -R /usr/lib/grub/i386-pc "$1/boot/grub/"
chroot "$1" grub-editenv /boot/grub/grubenv create

chroot "$1" systemctl --quiet enable lab-network.service console-getty.service
chroot "$1" systemctl --quiet set-default multi-user.target
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer systemd-tmpfiles-clean.timer getty@tty1.service getty-static.service systemd-logind.service \
    serial-getty@ttyS0.service kexec.service kexec-load.service modprobe@.service kmod-static-nodes.service \
    dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-config.mount systemd-update-done.service \
    systemd-binfmt.service systemd-random-seed.service systemd-firstboot.service systemd-repart.service \
    systemd-sysusers.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    systemd-machine-id-commit.service systemd-journal-flush.service systemd-journald-audit.socket \
    proc-sys-fs-binfmt_misc.automount; do
    ln -sf /dev/null "$1/etc/systemd/system/$unit"
done

# Each is a process at every boot, for what this box does not have.
mkdir -p "$1/etc/systemd/system-generators"
for generator in cryptsetup debug getty gpt-auto hibernate-resume integritysetup rc-local run system-update sysv \
    veritysetup; do
    ln -sf /dev/null "$1/etc/systemd/system-generators/systemd-$generator-generator"
done
