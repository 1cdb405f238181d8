#!/bin/sh
# Becomes a systemd that sees little of this machine: boot.sh DIRECTORY [FROM TO]…
#
# Run as the first process of namespaces of its own (PIDs, mounts, network, UTS, IPC, cgroups), as
# root. DIRECTORY has etc, opt and var, which stand for the machine's, and an empty dev; each FROM
# is shown at TO, below /opt. Whatever else is of this machine cannot be written to.
set -eu
umask 022
directory=$1
shift

mount --make-rprivate /
mount --bind "$directory/etc" /etc
mount --bind "$directory/opt" /opt
mount --bind "$directory/var" /var
while [ $# -gt 0 ]; do
    mount --bind "$1" "$2"
    shift 2
done

dev=$directory/dev
mount -t tmpfs -o mode=755 none "$dev"
for name in null zero full random urandom tty; do
    : >"$dev/$name"
    mount --bind "/dev/$name" "$dev/$name"
done
ln -s null "$dev/console"
mkdir "$dev/shm" "$dev/pts"
mount -t tmpfs -o mode=1777 none "$dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 none "$dev/pts"
ln -s pts/ptmx "$dev/ptmx"
mount --move "$dev" /dev

mount -o remount,bind,ro /
mount -t proc none /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /sys
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=755 none /home
mount -t tmpfs -o mode=1777 none /tmp
ip link set lo up
cd /

# A secret for all to read, at home.
mkdir /home/alice
echo secret >/home/alice/secret

export container=pfsmtp-test SYSTEMD_UNIT_PATH=/etc/systemd/system SYSTEMD_GENERATOR_PATH=/none
exec setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-sys_boot,-syslog \
    /lib/systemd/systemd --system --show-status=no --log-target=null </dev/null >/dev/null 2>&1
