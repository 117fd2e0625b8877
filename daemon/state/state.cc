
#include "state/state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <ranges>
#include <utility>

#include "base/json_reader.h"
#include "base/log.h"
#include "base/small_file.h"

namespace portfwd {

namespace {

using Json = nlohmann::json;

constexpr unsigned kVersion = 1;

Json json_of(const StickyPort& p) {
  return {{"container", p.container}, {"port", p.target.text()}, {"host_port", p.host_port}};
}

Json json_of(const ContainerAddress& a) {
  return {{"container", a.container}, {"address", a.address.text()}};
}

Json json_of(const ForwardSpec& f) {
  Json object{{"container", f.container},
              {"target", f.target.text()},
              {"reverse", f.direction == Direction::Reverse},
              {"bind", f.bind},
              {"address", f.container_address},
              {"label", f.label}};
  if (f.host_port) object["host_port"] = *f.host_port;
  return object;
}

Json json_of(const OptOut& o) {
  return {{"boot", o.boot}, {"pid", o.pid}, {"started", o.started}};
}

/// Reads the members of one object; afterwards `good` says whether all were there and made sense.
class Reader {
 public:
  explicit Reader(const Json& object) : object_(object) {}

  std::string text(const char* key) {
    const auto* value = member<Json::string_t>(key);
    return value == nullptr ? "" : *value;
  }
  Port port(const char* key) {
    const auto* value = member<Json::number_unsigned_t>(key);
    if (value == nullptr) return 0;
    good_ &= *value >= 1 && *value <= 65535;
    return static_cast<Port>(*value);
  }
  /// Nothing when it is not there.
  std::optional<Port> optional_port(const char* key) {
    return object_.contains(key) ? std::optional(port(key)) : std::nullopt;
  }
  std::uint64_t number(const char* key, std::uint64_t most) {
    const auto* value = member<Json::number_unsigned_t>(key);
    if (value == nullptr) return 0;
    good_ &= *value <= most;
    return *value;
  }
  bool flag(const char* key) {
    const auto* value = member<Json::boolean_t>(key);
    return value != nullptr && *value;
  }
  Target target(const char* key) {
    const auto parsed = parse_target(text(key));
    good_ &= parsed.has_value();
    return parsed.value_or(Target{});
  }
  IpAddress address(const char* key) {
    const auto parsed = IpAddress::parse(text(key));
    good_ &= parsed.has_value();
    return parsed.value_or(IpAddress{});
  }
  [[nodiscard]] bool good() const { return good_; }

 private:
  template <class T>
  const T* member(const char* key) {
    const auto found = object_.find(key);
    const T* value = found == object_.end() ? nullptr : found->get_ptr<const T*>();
    good_ &= value != nullptr;
    return value;
  }

  const Json& object_;
  bool good_ = true;
};

bool read(const Json& object, StickyPort& into) {
  Reader reader(object);
  into = {reader.text("container"), reader.target("port"), reader.port("host_port")};
  return reader.good();
}

bool read(const Json& object, ContainerAddress& into) {
  Reader reader(object);
  into = {reader.text("container"), reader.address("address")};
  return reader.good();
}

bool read(const Json& object, ForwardSpec& into) {
  Reader reader(object);
  into = {.container = reader.text("container"),
          .target = reader.target("target"),
          .direction = reader.flag("reverse") ? Direction::Reverse : Direction::In,
          .host_port = reader.optional_port("host_port"),
          .bind = reader.text("bind"),
          .container_address = reader.text("address"),
          .label = reader.text("label"),
          .persist = true};
  return reader.good();
}

bool read(const Json& object, OptOut& into) {
  Reader reader(object);
  into = {.boot = reader.text("boot"),
          .pid = static_cast<pid_t>(reader.number("pid", std::numeric_limits<pid_t>::max())),
          .started = reader.number("started", std::numeric_limits<std::uint64_t>::max())};
  return reader.good();
}

/// A list that is not there is empty. @return what is wrong, "" for nothing
template <class Entry>
std::string read_list(const Json& document, const char* key, std::vector<Entry>& into) {
  const auto list = document.find(key);
  if (list == document.end()) return "";
  if (!list->is_array()) return fmt::format("\"{}\" is no list", key);
  for (const Json& object : *list) {
    if (!object.is_object() || !read(object, into.emplace_back())) {
      return fmt::format("entry {} of \"{}\" makes no sense", into.size(), key);
    }
  }
  return "";
}

constexpr std::size_t kFrame = 64;  ///< bytes at most of a list's key and brackets

/// @param room for the list; what does not fit is left out, the first entries first
template <class Entry>
std::string text_of_list(std::string_view key, const std::vector<Entry>& entries,
                         std::size_t& room) {
  std::vector<std::string> lines;
  for (const Entry& entry : entries | std::views::reverse) {
    std::string line = json_of(entry).dump(-1, ' ', false, Json::error_handler_t::replace);
    if (line.size() + 2 > room) break;
    room -= line.size() + 2;  // its comma and newline
    lines.push_back(std::move(line));
  }
  std::ranges::reverse(lines);
  return fmt::format(",\n\"{}\":[{}{}]", key, lines.empty() ? "" : "\n", fmt::join(lines, ",\n"));
}

}  // namespace

std::string to_text(const State& state, std::size_t most) {
  std::size_t room = most - std::min(most, 5 * kFrame);
  const std::string forwards = text_of_list("forwards", state.forwards, room);  // dearest first
  const std::string opt_outs = text_of_list("opt_outs", state.opt_outs, room);
  const std::string addresses = text_of_list("addresses", state.addresses, room);
  const std::string ports = text_of_list("ports", state.ports, room);
  return fmt::format("{{\"version\":{}{}{}{}{}}}\n", kVersion, ports, addresses, forwards,
                     opt_outs);
}

std::expected<State, UnusableState> parse_state(std::string_view text) {
  constexpr std::size_t kLargest = 8UL << 20;
  const auto unusable = [](std::string why, bool newer = false) {
    return std::unexpected(UnusableState{std::move(why), newer});
  };
  const Json document = read_json(text, kLargest).value_or(Json());
  if (!document.is_object()) return unusable("it is cut off, or no JSON");
  const auto version = document.find("version");
  if (version == document.end() || *version != kVersion) {
    const auto* number =
        version == document.end() ? nullptr : version->get_ptr<const Json::number_unsigned_t*>();
    if (number == nullptr || *number <= kVersion) {
      return unusable(fmt::format("it is not of version {}", kVersion));
    }
    return unusable(fmt::format("it is of version {}, of a newer portfwd than this one", *number),
                    true);
  }
  State state;
  std::string wrong = read_list(document, "ports", state.ports);
  if (wrong.empty()) wrong = read_list(document, "addresses", state.addresses);
  if (wrong.empty()) wrong = read_list(document, "forwards", state.forwards);
  if (wrong.empty()) wrong = read_list(document, "opt_outs", state.opt_outs);
  if (!wrong.empty()) return unusable(std::move(wrong));
  return state;
}

namespace {

namespace fs = std::filesystem;

void warn(const std::string& text) {
  log::write(log::Level::Warning, text, {{"MESSAGE_ID", std::string(log::message_id::kState)}});
}

/// Whether what has the file's name cannot be a state that is only out of reach for now.
bool is_damaged(const UnreadableFile& why) {
  using Kind = UnreadableFile::Kind;
  const bool unreachable = why.kind == Kind::NoFolder || why.kind == Kind::Failed;
  return !unreachable || why.error.code == ELOOP;  // a link
}

/// The first name for a backup that nothing has; nothing when there are enough of them. Nobody else
/// makes any, so it is still free when it is used.
std::optional<fs::path> free_backup(const fs::path& path) {
  for (int number = 0; number < StateFile::kMostBackups; ++number) {
    fs::path backup = path.string() + ".damaged";
    if (number != 0) backup += fmt::format(".{}", number);
    std::error_code failed;
    if (fs::symlink_status(backup, failed).type() == fs::file_type::not_found) return backup;
  }
  return std::nullopt;
}

}  // namespace

std::string_view StateFile::remedy_for(int error) {
  switch (error) {
    case EMFILE:
      return "allow more descriptors (LimitNOFILE=)";
    case ENFILE:
    case ENOMEM:
      return "free what has run short";
    case ENOSPC:
    case EDQUOT:
      return "make room";
    case EACCES:
    case EPERM:
    case EROFS:
      return "make it and its folder accessible to this user";
    case ENOTDIR:
      return "a part of its path is a file; name another folder by STATE_DIRECTORY or "
             "XDG_STATE_HOME";
    default:
      return "mend the cause";
  }
}

std::expected<State, std::string> StateFile::load() const {
  const auto text = read_small_file(path().string(), kMostBytes, Links::Refuse);
  if (!text && text.error().kind == UnreadableFile::Kind::Missing) return {};
  if (!text && is_damaged(text.error())) return set_aside(text.error().text());
  if (!text) return leave(text.error().error.text(), remedy_for(text.error().error.code));
  auto state = parse_state(*text);
  if (state) return std::move(*state);
  if (state.error().newer) return leave(state.error().text, "run that one, or move the file away");
  return set_aside(state.error().text);
}

std::expected<State, std::string> StateFile::set_aside(std::string_view why) const {
  const auto backup = free_backup(path());
  if (!backup) {
    warn(
        fmt::format("{} cannot be used ({}) and will be overwritten, since there are {} backups "
                    "of damaged ones already: remove some; host ports and kept forwards are "
                    "forgotten",
                    path().string(), why, kMostBackups));
    return {};
  }
  if (std::rename(path().c_str(), backup->c_str()) != 0) {
    return leave(fmt::format("{}; {}", why, Error{errno, "rename"}.text()),
                 "make its folder writable, or move the file away");
  }
  warn(
      fmt::format("{} cannot be used ({}) and is set aside as {}: host ports and kept forwards "
                  "are forgotten",
                  path().string(), why, backup->string()));
  return {};
}

std::unexpected<std::string> StateFile::leave(const std::string& why,
                                              std::string_view remedy) const {
  std::string text = fmt::format(
      "{} cannot be read ({}) and is left as it is: {}, then restart "
      "portfwd",
      path().string(), why, remedy);
  warn(text + "; until then host ports and forwards are neither known from before nor kept");
  return std::unexpected(std::move(text));
}

}  // namespace portfwd
