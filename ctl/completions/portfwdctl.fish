# fish completion for portfwdctl(1)
set -l commands list containers forward unforward attach detach events explain status reload open
set -l none "not __fish_seen_subcommand_from $commands"

complete -c portfwdctl -f
complete -c portfwdctl -l json -d 'print one JSON document'
complete -c portfwdctl -l timeout -x -d 'wait at most so many seconds'
complete -c portfwdctl -l help -d 'show help'
complete -c portfwdctl -l version -d 'show the version'

complete -c portfwdctl -n $none -a list -d 'the forwards'
complete -c portfwdctl -n $none -a containers -d 'the containers'
complete -c portfwdctl -n $none -a forward -d 'forward a port'
complete -c portfwdctl -n $none -a unforward -d 'end a forward'
complete -c portfwdctl -n $none -a attach -d 'add what discovery cannot see'
complete -c portfwdctl -n $none -a detach -d 'forget a container'
complete -c portfwdctl -n $none -a events -d 'what came and went'
complete -c portfwdctl -n $none -a explain -d 'why a port is or is not forwarded'
complete -c portfwdctl -n $none -a status -d 'how the daemon is'
complete -c portfwdctl -n $none -a reload -d 'read the configuration again'
complete -c portfwdctl -n $none -a open -d 'show a forward in the browser'

complete -c portfwdctl -n '__fish_seen_subcommand_from list' -l container -x -d 'only this container'
complete -c portfwdctl -n '__fish_seen_subcommand_from containers' -l all -d 'the uninteresting too'
complete -c portfwdctl -n '__fish_seen_subcommand_from forward' -l host-port -x -d 'this host port'
complete -c portfwdctl -n '__fish_seen_subcommand_from forward' -l bind -x -a 'localhost 127.0.0.1 ::1'
complete -c portfwdctl -n '__fish_seen_subcommand_from forward' -l label -x -d 'a word for people'
complete -c portfwdctl -n '__fish_seen_subcommand_from forward' -l address -x -d 'address inside'
complete -c portfwdctl -n '__fish_seen_subcommand_from forward' -l reverse -d 'towards the host'
complete -c portfwdctl -n '__fish_seen_subcommand_from forward' -l persist -d 'across restarts'
complete -c portfwdctl -n '__fish_seen_subcommand_from forward' -l allow-missing -d 'may come later'
complete -c portfwdctl -n '__fish_seen_subcommand_from attach' -l pid -x -a '(__fish_complete_pids)'
complete -c portfwdctl -n '__fish_seen_subcommand_from attach' -l netns -r -F -d 'its namespace'
complete -c portfwdctl -n '__fish_seen_subcommand_from attach' -l name -x -d 'what to call it'
complete -c portfwdctl -n '__fish_seen_subcommand_from events' -l since -x -a 'now -5min -1h'
complete -c portfwdctl -n '__fish_seen_subcommand_from events' -l follow -d 'go on'
