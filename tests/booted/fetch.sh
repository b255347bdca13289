#!/bin/sh
# Inside new mount and PID namespaces, with this machine's network: put all that LOCK names into OUT, by the Python of
# the Debian in LOWER. What is installed there for that lies in WORK.
# Usage: fetch.sh LOWER WORK OUT LOCK...
set -eu
lower=$1 work=$2 out=$3
shift 3
root=$work/root
mount --make-rprivate /
mkdir "$root" "$work/upper" "$work/work" "$work/locks"
cp "$@" "$work/locks"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/out" "$root/run/locks"
mount --bind "$out" "$root/run/out"
mount --bind "$work/locks" "$root/run/locks"
# Name resolution and the certificates this machine trusts.
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
    rm -f "$root$file"
    touch "$root$file"
    mount --bind "$(readlink -f $file)" "$root$file"
done
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive PIP_ROOT_USER_ACTION=ignore
unset TMPDIR PIP_FIND_LINKS PIP_CONSTRAINT
# One package has no wheel, and says what it is only where it could be compiled.
# shellcheck disable=SC2016
exec chroot "$root" sh -euc '
    needed="python3-venv python3-dev gcc libasound2-dev"
    [ ! -e /srv/debian ] || { apt-get update -qq; apt-get install -y -qq --no-install-recommends $needed; }
    python3 -m venv /run/venv
    pip="/run/venv/bin/python -m pip -q --disable-pip-version-check"
    $pip install --require-hashes -r /run/locks/build.txt
    for lock in /run/locks/*.txt; do
        $pip download --no-deps --no-build-isolation --require-hashes --dest /run/out -r "$lock"
    done'
