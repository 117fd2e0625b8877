# shellcheck shell=bash
# UDP cases with common programs, for tests/e2e/session: dig with a DNS server, a transfer with iperf3, which also has a
# TCP connection to the same port, and a page over HTTP/3. Sourced after cases.sh.
# shellcheck disable=SC2034,SC2154
udp_cases=(dns_by_dig a_transfer_by_iperf3 a_page_by_http3)

# udp_sandbox NAME COMMAND: starts COMMAND in a sandbox of that name; its process is $sandbox.
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
  added 5201  # the UDP port, at once
  added 5201
  iperf3 --client 127.0.0.1 --udp --bitrate 10M --length 1200 --time 2 --json >"$work/transfer"
  jq -e '.end.sum | .packets > 1500 and .lost_percent < 20' "$work/transfer"
  portfwdctl unforward meter:5201/udp
}

a_page_by_http3() {
  local at
  portfwdctl forward quic 4433/udp --allow-missing
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
    -keyout "$work/key.pem" -out "$work/certificate.pem"
  head -c 2000000 /dev/urandom >"$work/page"
  mkdir "$work/fetched"
  udp_sandbox quic "/usr/sbin/gtlsserver --quiet --htdocs=$work 127.0.0.1 4433 $work/key.pem $work/certificate.pem"
  for at in 127.0.0.1 ::1; do
    gtlsclient --quiet --exit-on-all-streams-close --download="$work/fetched" "$at" 4433 https://localhost/page
    cmp "$work/page" "$work/fetched/page"
    rm "$work/fetched/page"
  done
  end_process "$sandbox"
  portfwdctl unforward quic:4433/udp
}
