# shellcheck shell=bash
# Cases of UDP with programs that people use, for tests/e2e/session: a DNS server asked by dig, and a
# transfer by iperf3, which also has a TCP connection to the same port. Sourced after cases.sh.
# shellcheck disable=SC2034,SC2154
udp_cases=(dns_by_dig a_transfer_by_iperf3)

# udp_sandbox NAME COMMAND: of that name, with COMMAND in it; its process is $sandbox.
udp_sandbox() {
  HOSTNAME=$1 unshare --user --map-root-user --net sh -c "ip link set lo up; exec $2" &
  sandbox=$!
}

dns_by_dig() {
  follow_events
  portfwdctl forward resolver 53000/udp --allow-missing
  udp_sandbox resolver "/usr/sbin/dnsmasq --no-daemon --conf-file=/dev/null --port=53000 --no-resolv --no-hosts \
    --listen-address=127.0.0.1 --bind-interfaces --address=/portfwd.test/192.0.2.7 --pid-file="
  for at in 127.0.0.1 ::1; do
    [ "$(dig +short +notcp "@$at" -p 53000 www.portfwd.test)" = 192.0.2.7 ]
  done
  end_process "$sandbox"
  portfwdctl unforward resolver:53000/udp
}

a_transfer_by_iperf3() {
  follow_events
  portfwdctl forward meter 5201/udp --allow-missing
  udp_sandbox meter "iperf3 --server --one-off"
  added 5201  # of UDP, at once
  added 5201
  iperf3 --client 127.0.0.1 --udp --bitrate 10M --length 1200 --time 2 --json >"$work/transfer"
  jq -e '.end.sum | .packets > 1500 and .lost_percent < 20' "$work/transfer"
  portfwdctl unforward meter:5201/udp
}
