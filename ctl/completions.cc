#include "ctl/completions.h"

#include <fmt/format.h>

#include <cassert>
#include <vector>

#include "ctl/command_line.h"

namespace portfwd::ctl {
namespace {

/// "list containers forward ..."
template <class Entries>
std::string names_of(const Entries& entries) {
  std::string out;
  for (const auto& entry : entries) out += fmt::format("{}{}", out.empty() ? "" : " ", entry.name);
  return out;
}

/// Inserts a backslash before each character of `special`.
std::string escaped(std::string_view text, std::string_view special) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != special.npos) out += '\\';
    out += c;
  }
  return out;
}

/// A word in single quotes. @param quote the shell's notation of a single quote inside them
std::string quoted(std::string_view text, std::string_view quote) {
  std::string out = "'";
  for (const char c : text) c == '\'' ? out += quote : out += c;
  return out + "'";
}

std::vector<Option> all_options() {
  std::vector<Option> all(global_options().begin(), global_options().end());
  for (const Command& command : commands()) {
    all.insert(all.end(), command.options.begin(), command.options.end());
  }
  return all;
}

// ---- bash

std::string bash_values(const Option& option) {
  assert(!option.value.empty());
  switch (option.offer) {
    case Offer::Nothing:
      return "return";
    case Offer::Words:
      return fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$cur\")); return", option.words);
    case Offer::Files:
      return "compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")); return";
    case Offer::Processes:
      return "COMPREPLY=($(compgen -W \"$(ps -u \"$(id -u)\" -o pid= 2>/dev/null)\" -- \"$cur\")); "
             "return";
  }
  return "";
}

// ---- zsh

std::string zsh_values(const Option& option) {
  switch (option.offer) {
    case Offer::Nothing:
      break;
    case Offer::Words:
      return fmt::format("({})", option.words);
    case Offer::Files:
      return "_files";
    case Offer::Processes:
      return "_pids";
  }
  return "";
}

constexpr std::string_view kZshQuote = R"('\'')";

std::string zsh_option(const Option& option) {
  std::string spec = option.excludes.empty() ? "" : fmt::format("({})", option.excludes);
  spec += fmt::format("{}[{}]", option.name, escaped(option.help, "[]:\\"));
  if (!option.value.empty()) spec += fmt::format(":{}:{}", option.value, zsh_values(option));
  return quoted(spec, kZshQuote);
}

// ---- fish

std::string fish_values(const Option& option) {
  if (option.value.empty()) return "";
  switch (option.offer) {
    case Offer::Nothing:
      break;
    case Offer::Words:
      return fmt::format(" -x -a '{}'", option.words);
    case Offer::Files:
      return " -r -F";
    case Offer::Processes:
      return " -x -a '(__fish_complete_pids)'";
  }
  return " -x";
}

std::string fish_text(std::string_view text) {
  return quoted(escaped(text, "\\"), "\\'");
}

std::string fish_option(const Option& option, std::string_view condition) {
  return fmt::format("complete -c portfwdctl{} -l {}{} -d {}\n", condition, option.name.substr(2),
                     fish_values(option), fish_text(option.help));
}

}  // namespace

std::string bash_completion() {
  std::string values;
  for (const Option& option : all_options()) {
    if (!option.value.empty()) {
      values += fmt::format("    {}) {} ;;\n", option.name, bash_values(option));
    }
  }
  std::string own;
  for (const Command& command : commands()) {
    if (command.options.empty()) continue;
    own += fmt::format("    {}) options+=' {}' ;;\n", command.name, names_of(command.options));
  }
  return fmt::format(R"(# bash completion for portfwdctl(1)
_portfwdctl() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= word
  local commands='{}'
  local options='{}'
  COMPREPLY=()
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case " $commands " in *" $word "*) command=$word; break ;; esac
  done

  case $prev in
{}  esac

  case $command in
    '') COMPREPLY=($(compgen -W "$commands $options" -- "$cur")); return ;;
{}  esac
  COMPREPLY=($(compgen -W "$options" -- "$cur"))
}}
complete -F _portfwdctl portfwdctl
)",
                     names_of(commands()), names_of(global_options()), values, own);
}

std::string zsh_completion() {
  std::string names;
  std::string arguments;
  for (const Command& command : commands()) {
    names += fmt::format("    {}\n",
                         quoted(fmt::format("{}:{}", command.name, command.help), kZshQuote));
    arguments += fmt::format("        {}) _arguments $common", command.name);
    for (const Option& option : command.options) {
      arguments += fmt::format(" \\\n          {}", zsh_option(option));
    }
    if (command.max_operands > 0) {
      arguments +=
          fmt::format(" \\\n          {}",
                      quoted(fmt::format("*:{}:", escaped(command.operands, ":")), kZshQuote));
    }
    arguments += " ;;\n";
  }
  std::string common;
  for (const Option& option : global_options())
    common += fmt::format("    {}\n", zsh_option(option));
  return fmt::format(R"(#compdef portfwdctl
# zsh completion for portfwdctl(1)

_portfwdctl() {{
  local -a commands
  commands=(
{}  )
  local -a common
  common=(
{}  )
  local curcontext=$curcontext state line
  _arguments -C $common '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands ;;
    argument)
      case $line[1] in
{}      esac ;;
  esac
}}

_portfwdctl "$@"
)",
                     names, common, arguments);
}

std::string fish_completion() {
  std::string out = fmt::format(R"(# fish completion for portfwdctl(1)
set -l commands {}
set -l none "not __fish_seen_subcommand_from $commands"

complete -c portfwdctl -f
)",
                                names_of(commands()));
  for (const Option& option : global_options()) out += fish_option(option, "");
  for (const Command& command : commands()) {
    out += fmt::format("complete -c portfwdctl -n $none -a {} -d {}\n", command.name,
                       fish_text(command.help));
  }
  for (const Command& command : commands()) {
    for (const Option& option : command.options) {
      out += fish_option(option, fmt::format(" -n '__fish_seen_subcommand_from {}'", command.name));
    }
  }
  return out;
}

}  // namespace portfwd::ctl
