# shellcheck shell=bash
# Functions for the scripts with end-to-end cases: wait for events, fetch pages, run each case in a shell of its own.
# Sourced after tools/lib.sh. The script sets CTL (how to call portfwdctl) and case_arguments (its own arguments
# before the name of a case), and defines messages(), which prints the log of the daemon.
# shellcheck disable=SC2034,SC2154

passed=0 failed=0
work=$(mktemp -d)

# follow_events: from now on `await` gets the events of the daemon, one JSON object a line.
follow_events() {
  local now  # not `--since now`: portfwdctl evaluates it later
  now=$(date --utc +%FT%T.%6NZ)
  coproc follower { exec "${CTL[@]}" --json events --since "$now" --follow; }
  # A copy of the descriptor, because bash closes its own as soon as the follower ends.
  exec {events}<&"${follower[0]}"
  follower_pid=$!
}

# await JQ: waits for the next event for which the filter JQ is true, for 10 s at most, and prints it.
await() {
  local line
  while read -r -t 10 line <&"$events"; do
    if jq -e "$1" >/dev/null <<<"$line"; then
      echo "$line"
      return
    fi
  done
  echo "no event within 10 s for which: $1"
  return 1
}

added() { await ".type == \"PortAdded\" and .forward.container_port == $1"; }
removed() { await ".type == \"PortRemoved\" and .forward.container_port == $1"; }

# quiet JQ: fails if the filter JQ is true for an event within the next second.
quiet() {
  local line until=$((${EPOCHREALTIME/./} + 1000000)) left
  while left=$((until - ${EPOCHREALTIME/./})) && [ $left -gt 0 ] &&
    read -r -t "$((left / 1000000)).$(printf %06d $((left % 1000000)))" line <&"$events"; do
    not jq -e "$1" <<<"$line" || return 1
  done
}

# stands NAME: fails if there is another event of this container within a second.
stands() {
  quiet "[.container.name, .forward.container.name] | index(\"$1\")"
}

# page URL: fetches the page within 5 s.
page() { curl --silent --show-error --fail --max-time 5 "$1"; }

# page_of EVENT: fetches the page behind the forward of an event.
page_of() { page "http://127.0.0.1:$(jq .forward.host_port <<<"$1")/"; }

# run_case NAME: runs a case in a shell of its own, which ends at the first command that fails, or after two minutes.
run_case() {
  local began=${EPOCHREALTIME/./}
  if timeout --kill-after=5 120 "$0" "${case_arguments[@]}" "$1" >"$work/output" 2>&1; then
    passed=$((passed + 1))
    printf 'ok    %s (%d ms)\n' "${1//_/ }" $(((${EPOCHREALTIME/./} - began) / 1000))
  else
    failed=$((failed + 1))
    printf 'FAIL  %s\n' "${1//_/ }"
    sed 's/^/      /' "$work/output"
    messages | sed 's/^/      | /'
    after_failure
  fi
}
