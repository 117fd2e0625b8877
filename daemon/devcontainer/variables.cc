#include "devcontainer/variables.h"

#include <cstdlib>
#include <string_view>

namespace portfwd::devcontainer {

namespace {

/// "localEnv:NAME" or "localEnv:NAME:DEFAULT", between "${" and "}". @return nothing for others
std::optional<std::string> value_of_variable(std::string_view variable,
                                             const Environment& environment) {
  for (const std::string_view kind : {"localEnv:", "env:"}) {
    if (!variable.starts_with(kind)) continue;
    variable.remove_prefix(kind.size());
    const auto colon = variable.find(':');
    auto value = environment ? environment(std::string(variable.substr(0, colon))) : std::nullopt;
    if (value) return value;
    return std::string(colon == variable.npos ? "" : variable.substr(colon + 1));
  }
  return std::nullopt;
}

}  // namespace

std::string substituted(std::string_view text, const Environment& environment) {
  std::string out;
  for (auto begin = text.find("${"); begin != text.npos; begin = text.find("${")) {
    const auto end = text.find('}', begin);
    if (end == text.npos) break;
    const auto value = value_of_variable(text.substr(begin + 2, end - begin - 2), environment);
    out += text.substr(0, begin);
    out += value ? *value : text.substr(begin, end + 1 - begin);
    text.remove_prefix(end + 1);
  }
  out += text;
  return out;
}

std::optional<std::string> local_environment(const std::string& name) {
  const char* value = ::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

}  // namespace portfwd::devcontainer
