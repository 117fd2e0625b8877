#include "config/config_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/small_file.h"
#include "config/mistakes.h"
#include "config/value_readers.h"
#include "net/presets.h"

namespace portfwd {

namespace {

void check_intervals(MistakeCollector& complaints, const Settings& settings) {
  if (settings.detect.min_interval <= settings.detect.max_interval) return;
  const Place least = complaints.place_of_key("detect", "min_interval");
  complaints.add(least.line != 0 ? least : complaints.place_of_key("detect", "max_interval"),
                 "[detect] min_interval is longer than max_interval");
}

/// Requires two keys before other machines may connect, so that one slip opens no port to them.
void check_remote(MistakeCollector& complaints, const Settings& settings) {
  constexpr std::string_view kRemedy =
      "is not a loopback address, so other machines could connect; to permit that, set "
      "allow_remote = true";
  const Settings::Host& host = settings.host;
  if (host.bind.is_remote() && !host.allow_remote) {
    complaints.add(complaints.place_of_key("host", "bind"),
                   fmt::format("[host] bind = \"{}\" {}", host.bind.only->text(), kRemedy));
  }
  for (const Rule& rule : settings.rules) {
    const bool allowed = rule.allow_remote.value_or(host.allow_remote);
    if (!rule.bind || !rule.bind->is_remote() || allowed) continue;
    complaints.add(rule.place, fmt::format("bind = \"{}\" {}", rule.bind->only->text(), kRemedy));
  }
}

/// Checks that no rule has a condition on Unix sockets and one that holds for ports only.
void check_unix_rules(MistakeCollector& complaints, const Settings& settings) {
  for (const Rule& rule : settings.rules) {
    if (rule.unix_names.empty()) continue;
    const std::string_view other = !rule.ports.empty() ? "ports"
                                   : rule.protocol     ? "protocol"
                                   : rule.address      ? "address"
                                                       : "";
    if (other.empty()) continue;
    complaints.add(rule.place,
                   fmt::format("no listener has both unix and {}: make two rules of it", other));
  }
}

/// Checks that all host ports of a rule exist: they keep the distances of the rule's ports.
void check_host_ports(MistakeCollector& complaints, const Settings& settings) {
  for (const Rule& rule : settings.rules) {
    if (!rule.host_port) continue;
    if (rule.ports.empty()) {
      complaints.add(rule.place, "host_port needs ports: it is the host port of the first of them");
      continue;
    }
    const int offset = int{*rule.host_port} - rule.ports.front().first;
    for (const PortRange& range : rule.ports) {
      if (range.first + offset >= 1 && range.last + offset <= 65535) continue;
      complaints.add(
          rule.place,
          fmt::format(
              "host_port = {} assigns the ports {} to the host ports {} to {}, which must be "
              "between 1 and 65535",
              *rule.host_port, range.text(), range.first + offset, range.last + offset));
    }
  }
}

/// Finds forwards that claim the same host port, and forwards with the same target.
class DuplicateSearch {
 public:
  explicit DuplicateSearch(MistakeCollector& complaints) : complaints_(complaints) {}

  void add(const DeclaredForward& forward) {
    if (forward.container.empty() || forward.target == Target()) return;
    const auto [same, first] =
        targets_.try_emplace({forward.direction, forward.container, forward.target}, forward.place);
    if (!first) {
      complaints_.add(forward.place,
                      fmt::format("port {} of {} already has a [[forward]], at {}",
                                  forward.target.text(), forward.container, same->second.text()));
      return;
    }
    if (forward.direction != Direction::In || !forward.host_port) return;
    const auto [there, free] = host_ports_.try_emplace(
        {forward.target.host_port_protocol(), *forward.host_port}, forward.place);
    if (free) return;
    complaints_.add(forward.place,
                    fmt::format("host port {} is already used by the [[forward]] at {}",
                                *forward.host_port, there->second.text()));
  }

 private:
  MistakeCollector& complaints_;
  std::map<std::tuple<Direction, std::string_view, Target>, Place> targets_;
  std::map<std::pair<Protocol, Port>, Place> host_ports_;
};

void check_forwards(MistakeCollector& complaints, const std::vector<DeclaredForward>& forwards) {
  if (forwards.size() > kMostDeclaredForwards) {
    complaints.add(
        forwards[kMostDeclaredForwards].place,
        fmt::format("too many [[forward]] tables: at most {} are allowed, and there are {}",
                    kMostDeclaredForwards, forwards.size()));
    return;
  }
  DuplicateSearch twins(complaints);
  for (const DeclaredForward& forward : forwards) {
    const bool to_port = forward.target.port() != nullptr;
    if (forward.direction == Direction::Reverse && !forward.host_port &&
        forward.host_path.empty()) {
      complaints.add(forward.place,
                     "a reverse [[forward]] needs host_port or host, the place that it leads to");
    }
    if (to_port && !forward.host_path.empty()) {
      complaints.add(forward.place,
                     "only a Unix socket can be forwarded to a path; give host_port for a port");
    }
    if (forward.host_port && !forward.host_path.empty()) {
      complaints.add(forward.place, "host and host_port name two places; give one of them");
    }
    if (forward.direction == Direction::In && has_variables(forward.host_path)) {
      complaints.add(forward.place,
                     "only the path of a reverse [[forward]] or a [[share]] may have variables");
    }
    if (forward.direction == Direction::Reverse && forward.target.protocol() == Protocol::Udp) {
      complaints.add(forward.place, "a reverse [[forward]] can only be TCP; remove /udp");
    }
    twins.add(forward);
  }
}

void check_shares(MistakeCollector& complaints, const std::vector<Share>& shares) {
  if (shares.size() > kMostDeclaredForwards) {
    complaints.add(
        shares[kMostDeclaredForwards].place,
        fmt::format("too many [[share]] tables: at most {} are allowed, and there are {}",
                    kMostDeclaredForwards, shares.size()));
    return;
  }
  for (const Share& share : shares) {
    if (share.preset.empty() == share.host.empty()) {
      complaints.add(share.place, "a [[share]] needs either preset or host");
    }
    if (share.preset.empty() && share.inside.empty()) {
      complaints.add(share.place, "a [[share]] with host needs inside, the path in the container");
    }
  }
}

}  // namespace

void find_contradictions(MistakeCollector& complaints, const Settings& settings) {
  check_intervals(complaints, settings);
  check_remote(complaints, settings);
  check_unix_rules(complaints, settings);
  check_host_ports(complaints, settings);
  check_forwards(complaints, settings.forwards);
  check_shares(complaints, settings.shares);
}

namespace {

using Read = std::expected<Settings, Mistakes>;

/// Reads files one after another into one Settings.
class Reader {
 public:
  explicit Reader(UserNames& users) : complaints_(users) {}

  void add(std::string_view text, std::string_view name);
  void add_failure(const std::filesystem::path& file, const Error& why) {
    Mistake& mistake = mistakes_.emplace_back();
    mistake.place.file = file.string();
    mistake.text = "cannot be read: " + unreadable_reason(why);
  }
  Read finish();

 private:
  void keep_mistakes() {
    std::ranges::move(complaints_.release_mistakes(), std::back_inserter(mistakes_));
  }

  Settings settings_;
  MistakeCollector complaints_;
  Mistakes mistakes_;
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::size_t end_of_number(std::string_view line, std::size_t at) {
  while (at < line.size() && is_digit(line[at])) ++at;
  return at;
}

/// @return the range of ports that begins at `at`; "" when there is none, or a date
std::string_view range_at(std::string_view line, std::size_t at) {
  const std::size_t dash = end_of_number(line, at);
  if (dash == line.size() || line[dash] != '-') return {};
  const std::size_t end = end_of_number(line, dash + 1);
  const bool date = end < line.size() && line[end] == '-';
  return end > dash + 1 && !date ? line.substr(at, end - at) : std::string_view();
}

/// The first range of ports without quotes (8000-8010), which TOML takes for the start of a date.
std::string_view unquoted_range(std::string_view line) {
  char quote = '\0';
  for (std::size_t at = 0; at < line.size(); ++at) {
    const char c = line[at];
    if (quote != '\0' || c == '"' || c == '\'') {
      quote = quote == '\0' ? c : quote == c ? '\0' : quote;
      continue;
    }
    if (c == '#') return {};
    if (!is_digit(c) || (at > 0 && !std::string_view("[,= \t").contains(line[at - 1]))) continue;
    const std::string_view range = range_at(line, at);
    if (!range.empty()) return range;
  }
  return {};
}

std::string_view line_of(std::string_view text, std::uint32_t number) {
  for (; number > 1; --number) text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  return text.substr(0, text.find('\n'));
}

std::string hint_for(std::string_view text, const toml::source_region& where) {
  const std::string_view range = unquoted_range(line_of(text, where.begin.line));
  return range.empty() ? "" : fmt::format("; a range of ports needs quotes: \"{}\"", range);
}

void Reader::add(std::string_view text, std::string_view name) {
  const toml::parse_result parsed = toml::parse(text, name);
  if (parsed) {
    read_sections(complaints_, parsed.table(), settings_);
  } else {
    const toml::source_region& where = parsed.error().source();
    complaints_.add(place_of(where),
                    std::string(parsed.error().description()) + hint_for(text, where));
  }
  keep_mistakes();
}

Read Reader::finish() {
  find_contradictions(complaints_, settings_);
  keep_mistakes();
  if (!mistakes_.empty()) return std::unexpected(std::move(mistakes_));
  return std::move(settings_);
}

/// Editors and programs keep hidden files beside, such as a lock `.#shop.toml`.
bool is_drop_in(const std::filesystem::path& path) {
  return path.extension() == ".toml" && !path.filename().string().starts_with('.');
}

/// Whether anything has that name, even a dangling link: that is a mistake, not a missing
/// configuration.
bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

}  // namespace

Read parse_config(std::string_view text, std::string_view name) {
  UserNames users;
  Reader reader(users);
  reader.add(text, name);
  return reader.finish();
}

Read read_config(const std::vector<std::filesystem::path>& files, UserNames& users) {
  Reader reader(users);
  for (const auto& file : files) {
    if (const auto text = read_small_file(file.string())) {
      reader.add(*text, file.string());
    } else {
      reader.add_failure(file, text.error());
    }
  }
  return reader.finish();
}

std::vector<std::filesystem::path> config_files(const std::filesystem::path& config,
                                                bool required) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  std::vector<fs::path> drop_ins;
  std::error_code failed;
  const fs::path home = config.parent_path();
  const fs::path folder = home / "config.d";
  const bool no_home = is_there(home) && !fs::is_directory(home, failed);
  if (required || no_home || is_there(config)) files.push_back(config);
  fs::directory_iterator entry(folder, failed);
  for (; !failed && entry != fs::directory_iterator(); entry.increment(failed)) {
    if (is_drop_in(entry->path())) drop_ins.push_back(entry->path());
  }
  if (failed && is_there(folder)) {  // reading it reports the cause
    const bool file = fs::is_regular_file(folder, failed);
    drop_ins.push_back(file ? folder / "*.toml" : folder);  // below a file nothing can be read
  }
  std::ranges::sort(drop_ins);
  std::ranges::move(drop_ins, std::back_inserter(files));
  return files;
}

}  // namespace portfwd
