#include "state/state.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>

#include "base/json_reader.h"
#include "base/log.h"
#include "base/small_file.h"
#include "base/text.h"

namespace portfwd {

namespace {

using Json = nlohmann::json;

constexpr unsigned kVersion = 1;

Json json_of(const StickyPort& p) {
  return {{"container", p.container}, {"port", p.target.text()}, {"host_port", p.host_port}};
}

Json json_of(const StickyPath& p) {
  return {{"container", p.container},
          {"target", p.target.text()},
          {"path", p.at.path},
          {"device", p.at.device},
          {"inode", p.at.inode}};
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
  if (!f.host_path.empty()) object["host_path"] = f.host_path;
  const SocketOptions& socket = f.socket;
  if (socket.owner) {
    object["owner_uid"] = socket.owner->uid;
    object["owner_gid"] = socket.owner->gid;
  }
  if (socket.mode != SocketOptions().mode) object["mode"] = socket.mode;
  if (socket.create_parents) object["create_parents"] = true;
  if (socket.pass_fds) object["pass_fds"] = true;
  if (socket.peer_uid) object["peer_uid"] = *socket.peer_uid;
  return object;
}

Json json_of(const OptOut& o) {
  return {{"boot", o.boot}, {"pid", o.pid}, {"started", o.started}};
}

Json json_of(const KnownContainer& c) {
  return {{"id", c.id},       {"name", c.name}, {"engine", c.engine},  {"engine_id", c.engine_id},
          {"netns", c.netns}, {"pid", c.pid},   {"started", c.started}};
}

/// The reader's defaults are left out, since there may be thousands of entries.
Json json_of(const KnownForward& f) {
  Json object{{"id", f.id}, {"container", f.container}, {"target", f.target.text()}};
  if (!f.container_name.empty()) object["name"] = f.container_name;
  if (f.direction == Direction::Reverse) object["reverse"] = true;
  if (f.requested) object["requested"] = true;
  return object;
}

Json json_of(const std::string& id) {
  return id;
}

Json json_of(const Instance& i) {
  return {{"id", i.id},
          {"boot", i.boot},
          {"next_event", i.next_event},
          {"next_forward", i.next_forward},
          {"next_container", i.next_container}};
}

constexpr std::size_t kLongestId = 64;

bool is_id(std::string_view text) {
  return !text.empty() && text.size() <= kLongestId && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '-';
  });
}

/// Reads the members of one object; `good` says afterwards whether all were present and valid.
class MemberReader {
 public:
  explicit MemberReader(const Json& object) : object_(object) {}

  [[nodiscard]] bool has(const char* key) const { return object_.contains(key); }
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
  /// Nothing when the member is missing.
  std::optional<Port> optional_port(const char* key) {
    return has(key) ? std::optional(port(key)) : std::nullopt;
  }
  std::uint64_t number(const char* key, std::uint64_t most) {
    const auto* value = member<Json::number_unsigned_t>(key);
    if (value == nullptr) return 0;
    good_ &= *value <= most;
    return *value;
  }
  /// As in an Instance.
  std::uint64_t next_number(const char* key) {
    const std::uint64_t value = number(key, Instance::kMostNumber);
    good_ &= value >= 1;
    return value;
  }
  pid_t pid(const char* key) {
    return static_cast<pid_t>(number(key, std::numeric_limits<pid_t>::max()));
  }
  /// Id of a forward, a container or an instance.
  std::string id(const char* key) {
    std::string value = text(key);
    good_ &= is_id(value);
    return value;
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
  MemberReader reader(object);
  into = {reader.text("container"), reader.target("port"), reader.port("host_port")};
  return reader.good();
}

bool read(const Json& object, StickyPath& into) {
  constexpr std::uint64_t kAny = std::numeric_limits<std::uint64_t>::max();
  MemberReader reader(object);
  into = {reader.text("container"),
          reader.target("target"),
          {reader.text("path"), reader.number("device", kAny), reader.number("inode", kAny)}};
  return reader.good();
}

bool read(const Json& object, ContainerAddress& into) {
  MemberReader reader(object);
  into = {reader.text("container"), reader.address("address")};
  return reader.good();
}

SocketOptions read_socket_options(MemberReader& reader) {
  constexpr std::uint64_t kMostId = std::numeric_limits<uid_t>::max() - 1;
  SocketOptions out;
  if (reader.has("owner_uid")) {
    out.owner = FileOwner{static_cast<uid_t>(reader.number("owner_uid", kMostId)),
                          static_cast<gid_t>(reader.number("owner_gid", kMostId))};
  }
  if (reader.has("mode")) out.mode = static_cast<mode_t>(reader.number("mode", 0777));
  out.create_parents = reader.has("create_parents") && reader.flag("create_parents");
  out.pass_fds = reader.has("pass_fds") && reader.flag("pass_fds");
  if (reader.has("peer_uid")) out.peer_uid = static_cast<uid_t>(reader.number("peer_uid", kMostId));
  return out;
}

bool read(const Json& object, ForwardSpec& into) {
  MemberReader reader(object);
  into = {.container = reader.text("container"),
          .target = reader.target("target"),
          .direction = reader.flag("reverse") ? Direction::Reverse : Direction::In,
          .host_port = reader.optional_port("host_port"),
          .bind = reader.text("bind"),
          .host_path = reader.has("host_path") ? reader.text("host_path") : "",
          .socket = read_socket_options(reader),
          .container_address = reader.text("address"),
          .label = reader.text("label"),
          .persist = true};
  return reader.good();
}

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

bool read(const Json& object, OptOut& into) {
  MemberReader reader(object);
  into = {.boot = reader.text("boot"),
          .pid = reader.pid("pid"),
          .started = reader.number("started", kMost)};
  return reader.good();
}

bool read(const Json& object, KnownContainer& into) {
  MemberReader reader(object);
  into = {.id = reader.id("id"),
          .name = reader.text("name"),
          .engine = reader.text("engine"),
          .engine_id = reader.text("engine_id"),
          .netns = reader.number("netns", kMost),
          .pid = reader.pid("pid"),
          .started = reader.number("started", kMost)};
  return reader.good();
}

bool read(const Json& object, KnownForward& into) {
  MemberReader reader(object);
  const auto flag = [&](const char* key) { return object.contains(key) && reader.flag(key); };
  into = {.id = reader.id("id"),
          .container = reader.text("container"),
          .container_name = object.contains("name") ? reader.text("name") : "",
          .target = reader.target("target"),
          .direction = flag("reverse") ? Direction::Reverse : Direction::In,
          .requested = flag("requested")};
  return reader.good();
}

bool read(const Json& value, std::string& into) {
  const auto* id = value.get_ptr<const Json::string_t*>();
  if (id == nullptr || !is_id(*id)) return false;
  into = *id;
  return true;
}

bool read(const Json& object, Instance& into) {
  MemberReader reader(object);
  into = {.id = reader.id("id"),
          .boot = reader.text("boot"),
          .next_event = reader.next_number("next_event"),
          .next_forward = reader.next_number("next_forward"),
          .next_container = reader.next_number("next_container")};
  return reader.good();
}

/// A missing list is empty. @return what is wrong, or ""
template <class Entry>
std::string read_list(const Json& document, const char* key, std::vector<Entry>& into) {
  const auto list = document.find(key);
  if (list == document.end()) return "";
  if (!list->is_array()) return fmt::format("\"{}\" is not a list", key);
  for (const Json& object : *list) {
    if (!object.is_object() || !read(object, into.emplace_back())) {
      return fmt::format("entry {} of \"{}\" is not valid", into.size(), key);
    }
  }
  return "";
}

/// Leaves out invalid entries, and all beyond the first `most`.
template <class Entry>
void read_valid_entries(const Json& document, const char* key, std::size_t most,
                        std::vector<Entry>& into) {
  const auto list = document.find(key);
  if (list == document.end() || !list->is_array()) return;
  constexpr bool kObjects = !std::is_same_v<Entry, std::string>;
  for (const Json& value : *list) {
    if (into.size() >= most) return;
    Entry entry;
    if (value.is_object() == kObjects && read(value, entry)) into.push_back(std::move(entry));
  }
}

constexpr std::size_t kFrame = 64;  ///< bytes at most of a list's key and brackets

std::string dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// What remains for lists.
struct Room {
  std::size_t bytes;
  std::size_t values;
};

/// Entries that do not fit are left out, the first ones first.
template <class Entry>
std::string text_of_list(std::string_view key, const std::vector<Entry>& entries, Room& room) {
  std::vector<std::string> lines;
  for (const Entry& entry : entries | std::views::reverse) {
    const Json value = json_of(entry);
    std::string line = dump(value);
    const std::size_t bytes = line.size() + 2;  // its comma and newline
    const std::size_t values = 1 + (value.is_object() ? value.size() : 0);
    if (bytes > room.bytes || values > room.values) break;
    room.bytes -= bytes;
    room.values -= values;
    lines.push_back(std::move(line));
  }
  std::ranges::reverse(lines);
  return fmt::format(",\n\"{}\":[{}{}]", key, lines.empty() ? "" : "\n", fmt::join(lines, ",\n"));
}

}  // namespace

std::string to_text(const State& state, std::size_t most) {
  const std::string instance = state.instance.id.empty()
                                   ? std::string()
                                   : ",\n\"instance\":" + dump(json_of(state.instance));
  constexpr std::size_t kOthers = 32;  // values outside of lists
  Room room{most - std::min(most, 9 * kFrame + instance.size()), kMostJsonValues - kOthers};
  const std::string forwards = text_of_list("forwards", state.forwards, room);  // kept longest
  const std::string opt_outs = text_of_list("opt_outs", state.opt_outs, room);
  const std::string used_ids = text_of_list("used_ids", state.used_ids, room);
  const std::string containers = text_of_list("containers", state.containers, room);
  const std::string forward_ids = text_of_list("forward_ids", state.forward_ids, room);
  const std::string addresses = text_of_list("addresses", state.addresses, room);
  const std::string paths = text_of_list("paths", state.paths, room);
  const std::string ports = text_of_list("ports", state.ports, room);
  return fmt::format("{{\"version\":{}{}{}{}{}{}{}{}{}{}}}\n", kVersion, instance, ports, paths,
                     addresses, forwards, opt_outs, containers, forward_ids, used_ids);
}

Answer<State> parse_state(std::string_view text) {
  constexpr std::size_t kLargest = 8UL << 20;
  const Json document = read_json(text, kLargest).value_or(Json());
  if (!document.is_object()) return reject("it is truncated, or not JSON");
  const auto version = document.find("version");
  if (version == document.end() || *version != kVersion) {
    const auto* number =
        version == document.end() ? nullptr : version->get_ptr<const Json::number_unsigned_t*>();
    if (number == nullptr || *number <= kVersion) {
      return reject(fmt::format("its version is not {}", kVersion));
    }
    return refuse(Refusal::Kind::Inaccessible,
                  fmt::format("its version is {}, that of a newer portfwd", *number));
  }
  State state;
  std::string wrong = read_list(document, "ports", state.ports);
  if (wrong.empty()) wrong = read_list(document, "addresses", state.addresses);
  if (wrong.empty()) wrong = read_list(document, "forwards", state.forwards);
  if (wrong.empty()) wrong = read_list(document, "opt_outs", state.opt_outs);
  if (!wrong.empty()) return reject(std::move(wrong));
  const auto instance = document.find("instance");
  const bool known = instance != document.end() && instance->is_object();
  if (!known || !read(*instance, state.instance)) state.instance = {};
  read_valid_entries(document, "paths", State::kMostForwards, state.paths);
  read_valid_entries(document, "containers", State::kMostContainers, state.containers);
  read_valid_entries(document, "forward_ids", State::kMostForwards, state.forward_ids);
  read_valid_entries(document, "used_ids", State::kMostUsedIds, state.used_ids);
  return state;
}

// ---- the instance ------------------------------------------------------------------------------

namespace {

constexpr std::size_t kRecordSize = 320;  ///< of two ids of kLongestId and three numbers

Error last_error(const char* operation) {
  return {errno, operation};
}

}  // namespace

/// Ids need no escapes.
std::string to_text(const InstanceRecord& record) {
  const Instance& i = record.instance;
  assert(is_id(i.id) && is_id(i.boot));
  std::string text = fmt::format(
      R"({{"version":{},"id":"{}","boot":"{}","next_event":{},"next_forward":{},)"
      R"("next_container":{},"ended":{}}})",
      kVersion, i.id, i.boot, i.next_event, i.next_forward, i.next_container, record.ended);
  assert(text.size() < kRecordSize);
  text.resize(kRecordSize - 1, ' ');
  return text + '\n';
}

std::optional<InstanceRecord> parse_instance(std::string_view text) {
  if (text.size() != kRecordSize) return std::nullopt;
  const Json document = read_json(text).value_or(Json());
  if (!document.is_object()) return std::nullopt;
  MemberReader reader(document);
  InstanceRecord record;
  record.ended = reader.flag("ended");
  const bool ours = reader.number("version", kVersion) == kVersion && reader.good();
  if (!ours || !read(document, record.instance) || !is_id(record.instance.boot)) {
    return std::nullopt;
  }
  return record;
}

Resumed resume(State& saved, const std::optional<InstanceRecord>& record, const std::string& boot,
               std::string new_id) {
  Resumed resumed{.instance = {.id = std::move(new_id), .boot = boot}};
  Instance& instance = resumed.instance;
  if (boot.empty() || saved.instance.boot != boot) {
    saved.containers.clear();
    saved.forward_ids.clear();
    saved.used_ids.clear();
  } else {
    instance.next_forward = saved.instance.next_forward;
    instance.next_container = saved.instance.next_container;
  }
  if (!record || boot.empty() || record->instance.boot != boot) return resumed;
  const Instance& before = record->instance;
  resumed.continues = true;
  instance.id = before.id;
  instance.next_event = before.next_event;
  instance.next_forward = std::max(instance.next_forward, before.next_forward);
  instance.next_container = std::max(instance.next_container, before.next_container);
  const bool untouched = before.next_event == 1;  // no event was emitted
  const bool complete =
      untouched || (saved.instance.id == before.id && saved.instance.boot == boot &&
                    saved.instance.next_event == before.next_event);
  if (!untouched && !(complete && record->ended)) ++instance.next_event;
  resumed.knows_used_ids = complete && saved.used_ids.size() < State::kMostUsedIds;
  return resumed;
}

InstanceFile::InstanceFile(const std::filesystem::path& folder,
                           const std::filesystem::path& state_folder)
    : path_(folder / fmt::format("instance-{:016x}", fnv1a(state_folder.native()))) {}

std::optional<InstanceRecord> InstanceFile::open() {
  assert(!file_.valid());
  std::filesystem::path folder;
  for (const auto& part : path_.parent_path()) {
    folder /= part;
    (void)::mkdir(folder.c_str(), 0700);  // open(2) reports what is missing
  }
  file_ = UniqueFd(::open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                          S_IRUSR | S_IWUSR));
  struct stat seen {};
  if (!file_.valid()) {
    give_up(last_error("open"));
  } else if (::fstat(file_.get(), &seen) != 0 || !S_ISREG(seen.st_mode)) {
    give_up({EINVAL, "open"});
  } else if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    give_up(last_error("flock"));  // another daemon is running
  }
  if (!file_.valid()) return std::nullopt;
  std::array<char, kRecordSize + 1> text{};
  const ssize_t size = ::pread(file_.get(), text.data(), text.size(), 0);
  auto record =
      size < 0 ? std::nullopt : parse_instance({text.data(), static_cast<std::size_t>(size)});
  if (!record && ::ftruncate(file_.get(), 0) != 0) give_up(last_error("ftruncate"));
  return record;
}

void InstanceFile::write(const InstanceRecord& record) {
  if (!file_.valid() || record == written_) return;
  const std::string text = to_text(record);
  const ssize_t put = ::pwrite(file_.get(), text.data(), text.size(), 0);
  if (put != static_cast<ssize_t>(text.size())) return give_up(last_error("pwrite"));
  written_ = record;
}

/// Stops using the file and empties it, since its contents are no longer true. A file in use by
/// another daemon is left as it is.
void InstanceFile::give_up(const Error& error) {
  const bool is_in_use = error.code == EWOULDBLOCK;  // then this daemon most likely exits soon
  log::write(
      is_in_use ? log::Level::Debug : log::Level::Info,
      fmt::format("cannot use {}: {}; after the next start the numbers of events begin again",
                  path_.string(), error.text()));
  if (file_.valid() && !is_in_use) (void)!::ftruncate(file_.get(), 0);
  file_.reset();
}

}  // namespace portfwd
