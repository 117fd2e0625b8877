# shellcheck shell=bash
# The end-to-end cases of rootless podman: networks, user namespaces, pods, and start, rename and replacement of a
# container. Sourced by tests/e2e/session, whose functions they use; each starts with the daemon running and leaves
# no container.
# shellcheck disable=SC2034,SC2154

remove() { podman rm --force --time 0 "$@"; }

# named NAME: prints the container of that name as JSON.
named() { portfwdctl --json containers | jq -e ".[] | select(.name == \"$1\")"; }

# forwarded NAME PORT: succeeds if this port of this container has a forward that answers.
forwarded() {
  local port
  port=$(portfwdctl --json list | jq -e ".[] | select(.container.name == \"$1\" and .container_port == $2 and
    .state == \"active\") | .host_port") && page "http://127.0.0.1:$port/"
}

# ---- networks and user namespaces

podman_with_ids_of_its_own() { container_is_reached 8101 --network=none --userns=auto; }
podman_without_the_users_id() { container_is_reached 8102 --network=none --userns=nomap; }

podman_on_a_bridge() { container_is_reached 8103 --network=bridge; }

podman_on_the_hosts_network() {
  container host 8104 --network=host
  wait_until 10 named host
  named host | jq -e '.engine == "podman" and .state == "ignored" and (.reason | contains("host")) and .listeners == []'
  portfwdctl explain host 8104 | grep 'on the host already'
  page http://127.0.0.1:8104/
  not forwarded host 8104
  remove host
  wait_until 10 not named host
}

podman_in_anothers_network() {
  container first 8105 --network=none
  container second 8106 --network=container:first
  wait_until 10 forwarded first 8105
  wait_until 10 forwarded second 8106
  remove second
  remove first
}

podman_in_a_pod() {
  podman pod create --name pod --network=none
  container first 8107 --pod pod
  container second 8108 --pod pod
  wait_until 10 forwarded first 8107
  wait_until 10 forwarded second 8108
  podman pod rm --force --time 0 pod
}

# A cgroup that a program in the container created, as systemd in it creates many.
podman_with_cgroups_below_its_own() {
  podman pod create --name pod --network=none
  container first 8109 --pod pod
  podman run --detach --name second --pod pod --systemd=always "$image" /bin/sh -c '
    busybox mkdir /sys/fs/cgroup/below
    sh -c "echo \$\$ >/sys/fs/cgroup/below/cgroup.procs && exec /bin/httpd -f -p 127.0.0.1:8110 -h /www" &
    wait'
  wait_until 10 forwarded second 8110
  podman pod rm --force --time 0 pod
}

# ---- its life

podman_stopped_started_killed_and_restarted() {
  follow_events
  container web 8112 --network=none
  added 8112
  podman stop --time 0 web
  removed 8112
  podman start web
  added 8112
  podman kill web
  removed 8112
  podman start web
  added 8112
  podman restart --time 0 web
  removed 8112
  page_of "$(added 8112)"
  remove web
}

podman_paused_and_unpaused() {
  local event
  follow_events
  container web 8113 --network=none
  event=$(added 8113)
  podman pause web
  not page_of "$event"
  podman unpause web
  page_of "$event"
  remove web
}

# The first events of a container are right, even if its engine sleeps when it starts.
podman_tells_nothing_that_is_taken_back() {
  mkdir -p ~/.config/portfwd
  printf '[[rule]]\nlabels = {role = "off"}\non_auto_forward = "ignore"\n' >~/.config/portfwd/config.toml
  systemctl --user reload "$unit"
  systemctl --user start podman.socket
  systemctl --user stop podman.service
  follow_events
  container web 8124 --network=none --label role=on
  await '.type == "ContainerAdded" and .container.engine == "podman"' |
    jq -e '.container | .name == "web" and .image != ""'
  jq -e '.forward.container.name == "web"' <<<"$(added 8124)"
  stands web
  podman restart --time 0 web
  added 8124
  stands web
  systemctl --user stop podman.service
  container rule 8125 --network=none --label role=off
  container label 8126 --network=none --label portfwd=off
  await '.type == "ContainerAdded" and .container.name == "label"'
  quiet '.type == "PortAdded"'
  portfwdctl --json explain rule 8125 | jq -e '.decision | contains("config.toml")'
  portfwdctl --json explain label 8126 | jq -e '.decision | contains("portfwd=off")'
  remove web rule label
  systemctl --user stop podman.socket podman.service
  rm ~/.config/portfwd/config.toml
  systemctl --user reload "$unit"
}

# Its first process has the command line of the monitor (conmon) of another container.
podman_that_calls_itself_the_keeper_of_another() {
  local shop other
  container shop 8127 --network=none
  shop=$(podman inspect --format '{{.Id}}' shop)
  podman run --detach --name other --network=none "$image" /c/conmon -c "$shop" -u "$shop" -n shop -- \
    /bin/httpd -f -p 127.0.0.1:8128 -h /www
  other=$(podman inspect --format '{{.Id}}' other)
  wait_until 10 forwarded other 8128
  wait_until 10 forwarded shop 8127
  named other | jq -e ".id == \"${other:0:12}\" and [.listeners[].port] == [8128]"
  named shop | jq -e ".id == \"${shop:0:12}\" and [.listeners[].port] == [8127]"
  remove other shop
}

podman_executes_a_server() {
  follow_events
  container web 8114 --network=none
  added 8114
  podman exec --detach web /bin/httpd -f -p 127.0.0.1:8115 -h /www
  jq -e '.forward.container.name == "web"' <<<"$(added 8115)"
  remove web
}

# Both sources of a new name: podman's events, and its storage alone.
podman_renamed() {
  container web 8116 --network=none
  wait_until 10 forwarded web 8116
  podman rename web shop
  wait_until 2 forwarded shop 8116
  podman --events-backend none rename shop store
  wait_until 2 forwarded store 8116
  remove store
}

podman_made_anew_under_its_name() {
  local port
  follow_events
  container web 8117 --network=none --stop-timeout 1
  port=$(added 8117 | jq .forward.host_port)
  container web 8117 --network=none --replace
  jq -e '.reason == "replaced"' <<<"$(removed 8117)"
  [ "$(added 8117 | jq .forward.host_port)" = "$port" ]
  remove web
  jq -e '.reason == "container-gone"' <<<"$(removed 8117)"
}

# As compose does through the API: the new container is created beside the old one and gets its name at the end. If
# podman's events go elsewhere, its storage is the source.
podman_made_anew_by_compose() {
  local id beside
  follow_events
  container web 8118 --network=none
  added 8118
  id=$(podman inspect --format '{{.Id}}' web)
  beside=${id:0:12}_web
  podman --events-backend none create --name "$beside" --network=none --label com.docker.compose.replace=web-1 "$image" \
    /bin/httpd -f -p 127.0.0.1:8118 -h /www
  podman stop --time 0 web
  jq -e '.reason == "replaced"' <<<"$(removed 8118)"
  podman rm web
  podman rename "$beside" web
  podman start web
  jq -e '.forward.container.name == "web"' <<<"$(added 8118)"
  stands web
  remove web
}

# As dev container tools do: recognised by its labels, with a random name.
podman_dev_container_made_anew() {
  local name
  systemctl --user start podman.socket
  for name in happy_hopper brave_bell sad_shannon; do
    container "$name" 8122 --network=slirp4netns --publish 18123:8123 --label devcontainer.local_folder=/nowhere/shop \
      --label devcontainer.metadata='[{"forwardPorts": [8122], "appPort": ["18123:8123"]}]'
    wait_until 10 is_declared "$name" 8122
    forwarded "$name" 8122
    portfwdctl --json list | jq -e "[.[] | select(.container.name == \"$name\")] | length == 1"
    remove "$name"
  done
  systemctl --user stop podman.socket podman.service
}

# is_declared NAME PORT: succeeds if this port of this container has a declared forward with the same host port.
is_declared() {
  portfwdctl --json list | jq -e ".[] | select(.container.name == \"$1\" and .container_port == $2 and
    .host_port == $2 and .origin == \"declared\" and .state == \"active\")"
}

# opted_out NAME PORT: succeeds if the port listens and its program has opted out.
opted_out() { portfwdctl --json explain "$1" "$2" | jq -e '.decision | contains("PORTFWD=off")'; }

# known CONTAINER: succeeds if the daemon has found the container of this name
known() { portfwdctl --json containers --all | jq -e --arg name "$1" 'any(.[]; .name == $name)'; }

# As redis and nginx do: the first process overwrites its environment with a title before it listens. Perl is the
# host's.
podman_opted_out_by_a_program_with_a_title() {
  # shellcheck disable=SC2016
  podman run --detach --name quiet --network=none --env PORTFWD=off --volume /usr:/usr:ro --volume /lib:/lib:ro \
    --volume /lib64:/lib64:ro "$image" /usr/bin/perl -MIO::Socket::INET -e '
      $SIG{USR1} = sub {};
      select undef, undef, undef, 20;
      $0 = "x" x 9999;
      my $server = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1", LocalPort => 8124) or die;
      while (my $client = $server->accept) { close $client }'
  wait_until 10 known quiet  # its environment is still unchanged
  podman kill --signal USR1 quiet
  wait_until 10 opted_out quiet 8124
  not grep --text --quiet PORTFWD "/proc/$(podman inspect --format '{{.State.Pid}}' quiet)/environ"
  systemctl --user restart portfwd
  wait_until 10 opted_out quiet 8124
  not forwarded quiet 8124
  remove quiet
}

# ---- the engine

podman_service_that_never_answers() {
  follow_events
  systemctl --user start podman.socket podman.service
  systemctl --user kill --signal=STOP podman.service
  container web 8119 --network=none
  jq -e '.forward.container.name == "web"' <<<"$(added 8119)"
  systemctl --user kill --signal=KILL podman.service
  systemctl --user stop podman.socket podman.service
  remove web
}

labelled() { named "$1" | jq -e '.labels.of == "e2e"'; }

podman_service_stopped_and_started() {
  systemctl --user stop podman.socket podman.service
  container without 8120 --network=none --label of=e2e
  wait_until 10 forwarded without 8120
  systemctl --user start podman.socket
  container with 8121 --network=none --label of=e2e
  wait_until 10 labelled with
  systemctl --user stop podman.socket podman.service
  forwarded without 8120
  remove without with
}

# all_fifty: succeeds if all of them have forwards, each under its own name.
all_fifty() {
  portfwdctl --json list | jq -e 'map(select(.state == "active" and
    .container.name == "many\(.container_port - 8200)")) | length == 50'
}

podman_fifty_at_once() {
  local i
  for i in {1..50}; do container "many$i" $((8200 + i)) --network=none >/dev/null & done
  wait
  wait_until 30 all_fifty
  # shellcheck disable=SC2046
  remove $(printf 'many%d ' {1..50}) >/dev/null
  wait_until 10 not named many1
}

podman_cases=(
  podman_with_ids_of_its_own podman_without_the_users_id podman_on_a_bridge podman_on_the_hosts_network
  podman_in_anothers_network podman_in_a_pod podman_with_cgroups_below_its_own
  podman_stopped_started_killed_and_restarted podman_tells_nothing_that_is_taken_back
  podman_that_calls_itself_the_keeper_of_another podman_paused_and_unpaused podman_executes_a_server podman_renamed
  podman_made_anew_under_its_name podman_made_anew_by_compose podman_dev_container_made_anew
  podman_opted_out_by_a_program_with_a_title podman_service_that_never_answers podman_service_stopped_and_started
)
