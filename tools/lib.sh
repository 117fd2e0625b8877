# shellcheck shell=bash
# Shell functions shared by ./try, ./check and the scripts under tests/ and tools/; sourced by bash,
# never run. What they promise together: root is only used to install packages and to make a private
# mount namespace; whatever is started there runs as a throw-away ordinary user who exists in that
# namespace alone (its /etc is a copy), so the machine's users, mounts and folders stay as they were.

set -euo pipefail
umask 022
export LC_ALL=C.UTF-8

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
private=/run/portfwd-private  # on the private mount namespace's own /run: the user's home, staged files
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

# packages SECTION...: the names in those sections of tools/packages.
packages() {
  awk -v wanted=" $* " '/^\[/ { on = index(wanted, " " substr($0, 2, length($0) - 2) " ") }
    !/^(\[|#|$)/ && on' "$top/tools/packages" | sort -u
}

# install_packages SECTION...: installs what is missing, as root or with sudo.
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

# need_user_namespaces: says in one line why there are none, as everything here rests on them.
need_user_namespaces() {
  as_user unshare --user --net true 2>/dev/null ||
    die "an ordinary user cannot make a user and network namespace here; allow it with" \
      "'sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 user.max_net_namespaces=10000'"
}

# enter_private_root ARG...: called by root, starts the calling script anew with the same arguments
# in a private mount namespace and returns there; does nothing for an ordinary user or in there.
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

# leave_chroot ARG...: the kernel refuses user namespaces to whoever's root is not the mount
# namespace's own (user_namespaces(7), EPERM): make the chroot's folder the root of ours.
# nsenter(1) steps out into the namespace's own root, where descriptor 3 tells which folder that is.
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

# populate_private_root: the throw-away user, in copies of what a new user changes.
populate_private_root() {
  mount -t tmpfs -o mode=755 portfwd /run
  mkdir -p "$private" /run/lock
  cp -a /etc "$private/etc"
  mount --bind "$private/etc" /etc
  touch /etc/subuid /etc/subgid
  # a uid of our own, as a chroot's or container's user table does not know whose processes run outside
  useradd --uid $((50000 + $$ % 10000)) --no-log-init --create-home --base-dir "$private" --shell /bin/bash "$user"
  install -d -o "$user" -g "$user" -m 700 "$private/runtime"
  uncover_clone
}

# uncover_clone: a clone below a folder closed to others (/root) becomes reachable under its own
# path, alone, with the folder hidden behind a tmpfs.
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

# as_user COMMAND...: as the throw-away user when we are root, else as ourselves.
as_user() {
  if is_root; then
    setpriv_user env PATH=/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C.UTF-8 XDG_RUNTIME_DIR="$private/runtime" "$@"
  else
    "$@"
  fi
}

# end_users_processes: nothing of the throw-away user outlives the script.
end_users_processes() {
  is_root || return 0
  local uid pid
  uid=$(id -u "$user")
  for pid in /proc/[0-9]*; do
    [ "$(stat -c %u "$pid" 2>/dev/null)" != "$uid" ] || kill -KILL "${pid#/proc/}" 2>/dev/null || true
  done
}

# wait_until SECONDS COMMAND...: repeats COMMAND until it succeeds; its status says whether it did.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}

# end_process PID: asks it to end, waits for it, at last insists.
end_process() {
  [ -n "${1:-}" ] && kill -TERM "$1" 2>/dev/null || return 0
  wait_until 10 not kill -0 "$1" 2>/dev/null || kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}
not() { ! "$@"; }
