# shellcheck shell=bash
# Further cases with Docker: names, published ports, restarts of the engine, helpers that were left over, reverse
# forwards. Sourced by tests/e2e/engines, whose functions they use.
# shellcheck disable=SC2034,SC2154

# shown JQ: succeeds if the filter JQ is true for a container.
shown() { "${CTL[@]}" --json containers | jq -e "any(.[]; $1)"; }
# forwarded PORT: succeeds if the port has a forward.
forwarded() { "${CTL[@]}" --json list | jq -e "any(.[]; .container_port == $1)"; }
# decided PORT WORDS: succeeds if the reason why the port is or is not forwarded contains WORDS.
decided() { "${CTL[@]}" --json explain "$1" | jq -e ".decision | contains(\"$2\")"; }

it_is_called_as_docker_calls_it() {
  daemon user
  web web 18098 --label com.docker.compose.project=shop --label com.docker.compose.service=front --label colour=blue
  added 18098
  wait_until 10 shown '.name == "web" and .engine == "docker" and .image == "portfwd-e2e" and .project == "shop" and
    .service == "front" and .labels.colour == "blue"'
  docker rename web front
  wait_until 10 shown '.name == "front"'
  "${CTL[@]}" --json list --container front | jq -e 'length == 1'
}

what_is_told_of_a_container_is_not_taken_back() {
  daemon user
  web web 18114
  jq -e '.forward.container | .name == "web" and .engine == "docker"' <<<"$(added 18114)"
  stands web
  docker restart --time 0 web
  added 18114
  stands web
  web label 18115 --label portfwd=off
  await '.type == "ContainerAdded" and .container.engine == "docker"'
  quiet '.type == "PortAdded"'
  decided 18115 portfwd=off
}

what_docker_publishes_is_not_forwarded_again() {
  daemon user
  web web 18100 --publish 127.0.0.1:18099:18100
  wait_until 10 decided 18100 'docker publishes it itself, at 127.0.0.1:18099'
  not forwarded 18100
  page http://127.0.0.1:18099/
  shown '.published[0] | .host_port == 18099 and .container_port == 18100'
}

what_is_published_in_vain_is_forwarded() {
  daemon user
  web web 127.0.0.1:18101 --publish 127.0.0.1:18101:18101
  event=$(added 18101)
  [ "$(jq .forward.host_port <<<"$event")" != 18101 ]
  page_of "$event"
}

# dev_container NAME: creates a dev container as the tools do: recognised by its labels, with a random name.
dev_container() {
  web "$1" 18111 --label devcontainer.local_folder=/nowhere/shop --publish 18112:18113 \
    --label devcontainer.metadata='[{"forwardPorts": [18111], "appPort": ["18112:18113"],
      "portsAttributes": {"18111": {"onAutoForward": "openBrowserOnce"}}}]'
}

# leads_to NAME: succeeds if the host port of forwardPorts leads to this container, and there is no other forward.
leads_to() {
  "${CTL[@]}" --json list | jq -e "length == 1 and (.[0] | .container.name == \"$1\" and .container_port == 18111 and
    .host_port == 18111 and .state == \"active\" and .origin == \"declared\")"
}

a_dev_container_made_anew_keeps_its_ports() {
  daemon user
  for name in happy_hopper brave_bell sad_shannon; do
    dev_container "$name"
    wait_until 10 leads_to "$name"
    page http://127.0.0.1:18111/
    "${CTL[@]}" --json explain "$name" 18113 | jq -e '.decision | contains("at port 18112 of every address")'
    docker rm --force "$name"
  done
}

# live_restore BOOLEAN: sets whether containers continue when their engine stops.
live_restore() {
  echo "{\"live-restore\": $1}" >"$place/daemon.json"
  kill -HUP "$(docker_pid)"
  wait_until 10 live_restore_is "$1"
}
live_restore_is() { [ "$(docker info --format '{{.LiveRestoreEnabled}}')" = "$1" ]; }

the_engine_is_restarted_below_its_containers() {
  daemon user
  web web 127.0.0.1:18102
  event=$(added 18102)
  live_restore true
  stop_docker
  page_of "$event"
  start_docker
  docker rename web front
  wait_until 10 shown '.name == "front"'
  page_of "$event"
  [ "$("${CTL[@]}" --json list | jq '.[] | select(.container_port == 18102) | .id')" = "$(jq .forward.id <<<"$event")" ]
  live_restore false
}

containers_of_one_namespace_share_a_helper() {
  daemon user
  web web 127.0.0.1:18108 --network none
  page_of "$(added 18108)"
  web side 127.0.0.1:18109 --network container:web
  wait_until 10 shown '.name == "side" and .listeners[0].port == 18109'
  wait_until 10 page http://127.0.0.1:18109/
  one_helper
}

a_helper_that_is_killed_is_replaced() {
  daemon user
  web web 127.0.0.1:18110
  event=$(added 18110)
  helper=$(helpers)
  docker kill "$helper"
  for _ in {1..20}; do page_of "$event"; done
  wait_until 10 one_helper
  [ "$(helpers)" != "$helper" ]
}

one_helper() { [ "$(helpers | wc -l)" = 1 ]; }

what_a_killed_daemon_left_is_removed_at_the_start() {
  docker create --label portfwd.helper=1 --label portfwd.folder="$private/runtime/portfwd" "$image" /bin/sleep 1
  docker create --label portfwd.helper=1 --label portfwd.folder=/of/somebody/else "$image" /bin/sleep 1
  daemon user
  wait_until 10 one_helper
  helpers | xargs docker inspect | jq -e '.[0].Config.Labels["portfwd.folder"] == "/of/somebody/else"'
}

a_port_inside_leads_to_the_host_by_a_helper() {
  daemon user
  web web 18103
  added 18103
  job busybox httpd -f -p 127.0.0.1:18104 -h "$root_folder/www"
  "${CTL[@]}" forward web 5432:18104 --reverse
  await '.type == "PortAdded" and .forward.direction == "reverse"'
  [ "$(docker exec web /bin/busybox wget -q -O - http://127.0.0.1:5432/)" = "hello from the container" ]
  one_helper
  reached 18103 helper
}

a_port_inside_is_refused_without_the_group() {
  daemon stranger
  web web 18105
  event=$(added 18105)
  not "${CTL[@]}" forward "$(jq -r .forward.container.id <<<"$event")" 5432:18104 --reverse 2>"$work/refusal"
  grep 'the group docker: .sudo systemctl restart user@' "$work/refusal"
  "${CTL[@]}" --json list | jq -e 'length == 1'
}

an_engine_elsewhere_is_listed_with_the_reason() {
  DOCKER_HOST=ssh://me@far daemon user
  shown '.name == "ssh://me@far" and .engine == "docker" and .state == "inaccessible" and
    (.reason | contains("DOCKER_HOST") and contains("ssh -L"))'
}

docker_cases=(
  it_is_called_as_docker_calls_it what_is_told_of_a_container_is_not_taken_back what_docker_publishes_is_not_forwarded_again
  what_is_published_in_vain_is_forwarded a_dev_container_made_anew_keeps_its_ports the_engine_is_restarted_below_its_containers
  containers_of_one_namespace_share_a_helper a_helper_that_is_killed_is_replaced
  what_a_killed_daemon_left_is_removed_at_the_start a_port_inside_leads_to_the_host_by_a_helper
  a_port_inside_is_refused_without_the_group an_engine_elsewhere_is_listed_with_the_reason
)
