# bash completion for portfwdctl(1)
_portfwdctl() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= word
  local commands='list containers forward unforward attach detach events explain status reload open'
  local options='--json --timeout --help --version'
  COMPREPLY=()
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case " $commands " in *" $word "*) command=$word; break ;; esac
  done

  case $prev in
    --netns) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
    --pid) COMPREPLY=($(compgen -W "$(ps -u "$(id -u)" -o pid= 2>/dev/null)" -- "$cur")); return ;;
    --since) COMPREPLY=($(compgen -W 'now -5min -1h' -- "$cur")); return ;;
    --bind) COMPREPLY=($(compgen -W 'localhost 127.0.0.1 ::1' -- "$cur")); return ;;
    --timeout|--container|--host-port|--label|--address|--name) return ;;
  esac

  case $command in
    '') COMPREPLY=($(compgen -W "$commands $options" -- "$cur")); return ;;
    list) options+=' --container' ;;
    containers) options+=' --all' ;;
    forward) options+=' --host-port --bind --label --address --reverse --persist --allow-missing' ;;
    attach) options+=' --pid --netns --name' ;;
    events) options+=' --since --follow' ;;
  esac
  COMPREPLY=($(compgen -W "$options" -- "$cur"))
}
complete -F _portfwdctl portfwdctl
