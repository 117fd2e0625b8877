#include "service/options.h"

#include <fmt/format.h>
#include <getopt.h>

#include <array>
#include <cstdlib>
#include <optional>

#include "base/text.h"
#include "base/version.h"

namespace portfwd {

namespace {

constexpr std::array kLong{
    option{"config", required_argument, nullptr, 'c'},
    option{"check-config", optional_argument, nullptr, 'C'},
    option{"bus", required_argument, nullptr, 'b'},
    option{"log-level", required_argument, nullptr, 'l'},
    option{"help", no_argument, nullptr, 'h'},
    option{"version", no_argument, nullptr, 'V'},
    option{nullptr, 0, nullptr, 0},
};

constexpr std::string_view kHelp =
    "Usage: portfwd [OPTION]...\n"
    "Make every port that opens in a container reachable on the host's loopback.\n"
    "Usually run as a service: `systemctl --user enable --now portfwd`\n\n"
    "  --config FILE           read FILE instead of ~/.config/portfwd/config.toml\n"
    "  --check-config [FILE]   check the configuration, show all errors, and exit\n"
    "  --bus session|system    own the D-Bus name on this bus (default: session)\n"
    "  --log-level LEVEL       error, warning, notice, info or debug (default: info)\n"
    "  --help, --version\n\n"
    "Exit status: 0 stopped on request, 1 failed, 2 usage or configuration error, 4 already "
    "running.\n"
    "See portfwd(8), portfwd.toml(5), portfwdctl(1).\n";

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::optional<std::string>(value) : std::nullopt;
}

/// $`variable`, or `fallback` in the home folder. Source: XDG Base Directory Specification.
std::filesystem::path user_folder(const char* variable, std::string_view fallback) {
  if (const auto xdg = environment(variable)) return *xdg;
  return std::filesystem::path(environment("HOME").value_or("/")) / fallback;
}

/// Source: systemd.exec(5), STATE_DIRECTORY: several folders are separated by colons.
std::filesystem::path state_folder() {
  if (const auto given = environment("STATE_DIRECTORY")) return given->substr(0, given->find(':'));
  return user_folder("XDG_STATE_HOME", ".local/state") / "portfwd";
}

/// Source: systemd.exec(5), RUNTIME_DIRECTORY.
std::filesystem::path runtime_folder() {
  if (const auto given = environment("RUNTIME_DIRECTORY")) {
    return given->substr(0, given->find(':'));
  }
  const auto user = environment("XDG_RUNTIME_DIR");
  return user ? std::filesystem::path(*user) / "portfwd" : std::filesystem::path();
}

/// A word of the command line, as messages repeat it.
std::string echo(std::string_view word) {
  return printable(word, 64);
}

Answer<void> set_level(Options& options, const std::string& text) {
  const auto level = log::parse_level(text);
  if (!level) {
    return reject(fmt::format("unknown log level \"{}\": use error, warning, notice, info or debug",
                              echo(text)));
  }
  options.log_level = *level;
  return {};
}

Answer<void> set_bus(Options& options, std::string_view text) {
  if (text != "session" && text != "system") {
    return reject(fmt::format("unknown bus \"{}\": use session or system", echo(text)));
  }
  options.system_bus = text == "system";
  return {};
}

void set_config(Options& options, std::string path) {
  options.config = std::move(path);
  options.config_required = true;
}

Answer<void> from_environment(Options& options) {
  options.config = user_folder("XDG_CONFIG_HOME", ".config") / "portfwd/config.toml";
  options.state_folder = state_folder();
  options.runtime_folder = runtime_folder();
  if (auto path = environment("PORTFWD_CONFIG")) set_config(options, std::move(*path));
  if (const auto level = environment("PORTFWD_LOG_LEVEL")) return set_level(options, *level);
  return {};
}

/// Message for a bad option. getopt_long(3) itself prints nothing, so that there is only this line.
std::string bad_option(char* const* argv, int option) {
  const std::string what = echo(argv[optind - 1]);
  if (option == ':') return fmt::format("{} needs a value; see `portfwd --help`", what);
  return fmt::format("unknown option \"{}\"; see `portfwd --help`", what);
}

}  // namespace

Answer<Options> parse_options(int argc, char* const* argv) {
  Options options;
  if (auto ok = from_environment(options); !ok) return std::unexpected(ok.error());
  opterr = 0;
  optind = 1;
  bool file_given = false;  // for --check-config, after '=' or as a separate word
  for (int c = 0; (c = ::getopt_long(argc, argv, ":h", kLong.data(), nullptr)) != -1;) {
    Answer<void> ok;
    switch (c) {
      case 'c':
        set_config(options, optarg);
        break;
      case 'C':
        options.action = Options::Action::CheckConfig;
        file_given = optarg != nullptr;
        if (file_given) set_config(options, optarg);
        break;
      case 'b':
        ok = set_bus(options, optarg);
        break;
      case 'l':
        ok = set_level(options, optarg);
        break;
      case 'h':
        options.action = Options::Action::Help;
        return options;
      case 'V':
        options.action = Options::Action::Version;
        return options;
      default:
        return reject(bad_option(argv, c));
    }
    if (!ok) return std::unexpected(ok.error());
  }
  const bool checks = options.action == Options::Action::CheckConfig;
  if (checks && !file_given && optind < argc) set_config(options, argv[optind++]);
  if (optind < argc) {
    return reject(
        fmt::format("unexpected argument \"{}\"; see `portfwd --help`", echo(argv[optind])));
  }
  return options;
}

std::expected<Settings, Mistakes> read_settings(const Options& options) {
  UserNames users;
  return read_settings(options, users);
}

std::expected<Settings, Mistakes> read_settings(const Options& options, UserNames& users) {
  return read_config(config_files(options.config, options.config_required), users);
}

bool print_information(const Options& options) {
  switch (options.action) {
    case Options::Action::Help:
      fmt::print("{}", kHelp);
      return true;
    case Options::Action::Version:
      fmt::print("portfwd {}\n", kVersion);
      return true;
    default:
      return false;
  }
}

}  // namespace portfwd
