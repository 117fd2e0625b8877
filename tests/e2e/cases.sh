# shellcheck shell=bash
# What end-to-end cases are made of, for the scripts that have some: waiting for what the daemon
# tells, fetching pages, and running each case in a shell of its own. Sourced after tools/lib.sh;
# the script says by CTL how portfwdctl is called, by case_arguments its own arguments before a
# case's name, and by messages() what the daemon has said.
# shellcheck disable=SC2034,SC2154

passed=0 failed=0
work=$(mktemp -d)

# follow_events: from now on `await` sees what the daemon tells, one JSON object a line.
follow_events() {
  local now  # not `--since now`, which is only when portfwdctl has come so far
  now=$(date --utc +%FT%T.%6NZ)
  coproc follower { exec "${CTL[@]}" --json events --since "$now" --follow; }
  # A copy of the descriptor: bash closes its own as soon as the follower ends.
  exec {events}<&"${follower[0]}"
  follower_pid=$!
}

# await JQ: the next event, within 10 s, for which the filter JQ is true; it is printed.
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

# quiet JQ: within the next second there is no event for which the filter JQ is true.
quiet() {
  local line until=$((${EPOCHREALTIME/./} + 1000000)) left
  while left=$((until - ${EPOCHREALTIME/./})) && [ $left -gt 0 ] &&
    read -r -t "$((left / 1000000)).$(printf %06d $((left % 1000000)))" line <&"$events"; do
    not jq -e "$1" <<<"$line" || return 1
  done
}

# stands NAME: what was told of the container of that name is not taken back within a second.
stands() {
  quiet "[.container.name, .forward.container.name] | index(\"$1\")"
}

# page URL: fetched within 5 s.
page() { curl --silent --show-error --fail --max-time 5 "$1"; }

# page_of EVENT: of the forward that an event is about.
page_of() { page "http://127.0.0.1:$(jq .forward.host_port <<<"$1")/"; }

# run_case NAME: in a shell of its own that ends at the first command that fails; two minutes at most.
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
