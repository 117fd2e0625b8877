# shellcheck shell=bash
# Shell functions shared by ./try, ./check and the scripts in tests/ and tools/; sourced by bash, never
# executed. Together they guarantee: root is used only to install packages and to create a private mount
# namespace. Programs started there run as a throw-away ordinary user that exists only in that namespace
# (its /etc is a copy), so the machine's users, mounts and folders do not change.

set -euo pipefail
umask 022
export LC_ALL=C.UTF-8

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
private=/run/portfwd-private  # in the /run of the private mount namespace: the user's home and staged files
user=portfwd-guest

say() { printf '%s\n' "${0##*/}: $*" >&2; }
die() {
  say "$*"
  exit 1
}
is_root() { [ "$(id -u)" = 0 ]; }

if [ ! -e /proc/self/fd ]; then
  mount -t proc proc /proc || die "needs /proc: mount -t proc proc /proc"
  say "mounted /proc, which this root lacked"
fi

# packages SECTION...: prints the names in these sections of tools/packages.
packages() {
  awk -v wanted=" $* " '/^\[/ { on = index(wanted, " " substr($0, 2, length($0) - 2) " ") }
    !/^(\[|#|$)/ && on' "$top/tools/packages" | sort -u
}

# install_packages SECTION...: installs the missing packages of these sections, as root or with sudo.
install_packages() {
  local package missing=() log as_root=()
  for package in $(packages "$@"); do
    dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! is_root; then
    command -v sudo >/dev/null || die "needs packages: run 'apt-get install ${missing[*]}' as root, then try again"
    as_root=(sudo)
  fi
  say "installing ${#missing[@]} packages: ${missing[*]}"
  log=$(mktemp)
  apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 </dev/null
  }
  if ! { apt update && apt install -y --no-install-recommends "${missing[@]}"; }; then
    tail -n 15 "$log" >&2
    die "apt-get failed (its last lines are above): mend its sources or the network, then try again"
  fi
  rm -f "$log"
}

# need_user_namespaces: ends the script, with the reason, if an ordinary user cannot create user namespaces.
need_user_namespaces() {
  as_user unshare --user --net true 2>/dev/null ||
    die "an ordinary user cannot make a user and network namespace here; allow it with" \
      "'sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 user.max_net_namespaces=10000'"
}

# enter_private_root ARG...: for root, executes the calling script again, with the same arguments, in a
# private mount namespace, and returns there. Does nothing for an ordinary user or inside that namespace.
enter_private_root() {
  is_root && ! id "$user" >/dev/null 2>&1 || return 0
  if [ -z "${PORTFWD_PRIVATE:-}" ]; then
    unshare --mount --propagation unchanged true ||
      die "root may not make a mount namespace here: run as an ordinary user, or in a machine of its own"
    export PORTFWD_PRIVATE=1
    unshare --user true 2>/dev/null || leave_chroot "$@"
    exec unshare --mount "$0" "$@"
  fi
  unset PORTFWD_PRIVATE
  populate_private_root
}

# leave_chroot ARG...: in a chroot the kernel refuses to create user namespaces, because the root of the process
# is not the root of its mount namespace (user_namespaces(7), EPERM). Makes the folder of the chroot the root of
# a new mount namespace and executes the script there. nsenter(1) changes to the root of the mount namespace,
# where descriptor 3 still refers to the folder of the chroot.
leave_chroot() {
  local self
  self=$(realpath "$0")
  exec unshare --mount --propagation unchanged nsenter --target $$ --mount /bin/sh -ec '
    cwd=$1 root=$(readlink /proc/self/fd/3)
    mount --make-rprivate /
    if [ "$root" != / ]; then
      mount --rbind "$root" "$root"
      cd "$root"
      pivot_root . .
      umount -l .
    fi
    cd "$cwd"
    shift
    exec "$@" 3<&-' sh "$PWD" "$self" "$@" 3</
}

# populate_private_root: creates the throw-away user, in copies of the files that this changes.
populate_private_root() {
  mount -t tmpfs -o mode=755 portfwd /run
  mkdir -p "$private" /run/lock
  cp -a /etc "$private/etc"
  mount --bind "$private/etc" /etc
  touch /etc/subuid /etc/subgid
  # A uid of its own: the users of a chroot or container do not include those whose processes run outside.
  useradd --uid $((50000 + $$ % 10000)) --no-log-init --create-home --base-dir "$private" --shell /bin/bash "$user"
  install -d -o "$user" -g "$user" -m 700 "$private/runtime"
  uncover_clone
}

# uncover_clone: makes a clone in a folder that the user cannot enter (/root) accessible under the same path;
# a tmpfs hides the rest of that folder.
uncover_clone() {
  local closed=$top next
  setpriv_user test -x "$top" && return
  while next=$(dirname "$closed") && [ "$next" != / ] && ! setpriv_user test -x "$next"; do closed=$next; done
  [ "$closed" != "$top" ] || die "others may not read this clone: chmod -R go+rX $top"
  cd "$top"
  mount -t tmpfs -o mode=755 portfwd "$closed"
  mkdir -p "$top"
  mount --no-canonicalize --rbind . "$top"
  cd "$top"
}

setpriv_user() {
  setpriv --reuid="$user" --regid="$user" --init-groups --reset-env --inh-caps=-all -- "$@"
}

# as_user COMMAND...: runs COMMAND as the throw-away user if root runs the script, else as the present user.
as_user() {
  if is_root; then
    setpriv_user env PATH=/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C.UTF-8 XDG_RUNTIME_DIR="$private/runtime" "$@"
  else
    "$@"
  fi
}

# end_users_processes: kills the processes that the throw-away user has left.
end_users_processes() {
  is_root || return 0
  local uid pid
  uid=$(id -u "$user")
  for pid in /proc/[0-9]*; do
    [ "$(stat -c %u "$pid" 2>/dev/null)" != "$uid" ] || kill -KILL "${pid#/proc/}" 2>/dev/null || true
  done
}

# wait_until SECONDS COMMAND...: repeats COMMAND until it succeeds; fails after SECONDS.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}

# end_process PID: sends SIGTERM, waits for the process for 10 s, then sends SIGKILL.
end_process() {
  [ -n "${1:-}" ] && kill -TERM "$1" 2>/dev/null || return 0
  wait_until 10 not kill -0 "$1" 2>/dev/null || kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}
not() { ! "$@"; }

# debian_mirror: the mirror of Debian that this machine's apt uses; DEBIAN_MIRROR names another one.
debian_mirror() {
  local mirror
  mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }')}
  echo "${mirror:-http://deb.debian.org/debian}"
}

# make_debian_root SUITE ROOT: a minimal Debian in the folder ROOT; one that is complete is used as it is.
make_debian_root() {
  is_root || die "needs root to make a Debian root: run it with sudo"
  install_packages root
  [ -e "$2/debootstrap" ] || [ ! -e "$2/etc/debian_version" ] || return 0  # the folder of an unfinished one
  say "making $2 ($1)"
  debootstrap --variant=minbase "$1" "$2" "$(debian_mirror)" >&2 ||
    die "debootstrap failed; DEBIAN_MIRROR names another mirror"
}

# copy_sources FOLDER: the source tree as it is, without builds and history.
copy_sources() {
  mkdir -p "$1"
  tar -C "$top" --exclude=./build --exclude=./.git -c . | tar -C "$1" -x
}

# in_debian_root ROOT COMMAND...: in a mount namespace of its own, so that nothing stays mounted in ROOT.
in_debian_root() {
  unshare --mount sh -ec '
    root=$1
    shift
    for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
    exec chroot "$root" "$@"' sh "$@"
}
