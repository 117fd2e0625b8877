// State that must outlive the daemon, as plain values, and its text: JSON with a version. The
// registry, the forward table and the event log own the current values; a State is a copy for
// writing, and is read once at the start.
//
// A restart of the daemon keeps the ids of containers and forwards that remain, and continues the
// numbers of events. The State does not suffice for the numbers, since it is written at most once a
// second, and a number assigned after the last write must not be assigned again. The InstanceFile
// has the exact numbers; resume() combines both.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "config/settings.h"
#include "discover/identity.h"
#include "discover/process_facts.h"
#include "net/target.h"

namespace portfwd {

/// The host port that a container's port had last.
struct StickyPort {
  std::string container;  ///< one of its lasting_names(), since its id does not outlive it
  Target target;
  Port host_port = 0;
  friend bool operator==(const StickyPort&, const StickyPort&) = default;
};

/// The path at which a Unix socket's forward listened last on the host, and the file that was made
/// there.
struct HostPathRecord {
  std::string path;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const HostPathRecord&, const HostPathRecord&) = default;
};

struct StickyPath {
  std::string container;  ///< one of its lasting_names(), since its id does not outlive it
  Target target;
  HostPathRecord at;
  friend bool operator==(const StickyPath&, const StickyPath&) = default;
};

/// The loopback address that is assigned to a container.
struct ContainerAddress {
  std::string container;
  IpAddress address;
  friend bool operator==(const ContainerAddress&, const ContainerAddress&) = default;
};

/// An InstanceId, and the next number of each kind under it. Numbers start at 1 and are assigned
/// once.
struct Instance {
  static constexpr std::uint64_t kMostNumber = std::uint64_t{1} << 53;  ///< exact in any JSON

  std::string id;    ///< "": there is none yet
  std::string boot;  ///< the kernel's random id of the boot in which the numbers were assigned
  std::uint64_t next_event = 1;
  std::uint64_t next_forward = 1;    ///< in the id of a forward
  std::uint64_t next_container = 1;  ///< in the id of a container
  friend bool operator==(const Instance&, const Instance&) = default;
};

/// The id of a forward, and what identifies the forward.
struct KnownForward {
  std::string id;
  std::string container;       ///< as in ForwardKey
  std::string container_name;  ///< the name under which a request waits for its container
  Target target;
  Direction direction = Direction::In;
  bool requested = false;  ///< manually or by a declaration
  friend bool operator==(const KnownForward&, const KnownForward&) = default;
};

/// Ports and addresses are in order of use, the least recently used first.
struct State {
  static constexpr std::size_t kMostContainers = 1024;
  static constexpr std::size_t kMostForwards = 4096;
  static constexpr std::size_t kMostUsedIds = 4096;

  std::vector<StickyPort> ports;
  std::vector<StickyPath> paths;
  std::vector<ContainerAddress> addresses;
  std::vector<ForwardSpec> forwards;  ///< those with `persist`
  std::vector<OptOut> opt_outs;
  Instance instance;
  // Valid for this boot only: processes and network namespaces do not outlive it.
  std::vector<KnownContainer> containers;
  std::vector<KnownForward> forward_ids;
  std::vector<std::string> used_ids;  ///< of containers, made from an engine's id
  friend bool operator==(const State&, const State&) = default;
};

/// One line for each entry. Bytes in a name that are not UTF-8 become U+FFFD.
/// @param most bytes. What does not fit, or would be too much for read_json(), is left out: the
/// least recently used host ports first, then addresses, then ids, then opt-outs, then forwards
[[nodiscard]] std::string to_text(const State& state,
                                  std::size_t most = std::numeric_limits<std::size_t>::max());
/// A malformed entry in a list of one boot is left out, since that costs only an id. Any other
/// malformed entry makes the text unusable.
/// @return why to_text() has not made the text: truncated, edited, or of another version.
/// Inaccessible: a newer portfwd has made it, so it is not damaged
[[nodiscard]] Answer<State> parse_state(std::string_view text);

// The file of the State: state.json in a folder of its own, mode 0600. It is read once, before the
// daemon serves anything. A FileWriter writes it, so that a crash at any moment leaves the old
// contents or the new. Owned by main. When to write and what the values mean is not known here.
class StateFile {
 public:
  static constexpr std::size_t kMostBytes = 8 * 1024 * 1024;  ///< larger files are not used
  static constexpr int kMostBackups = 10;                     ///< of damaged files

  explicit StateFile(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// What was saved last; an empty State when there is none, or when the file is damaged. A damaged
  /// file is renamed to state.json.damaged, or .damaged.1 to .damaged.9, which is logged. A backup
  /// is never replaced: with ten of them the file stays, to be overwritten.
  /// @return why a file that may be intact could not be read, which is logged too. Then it must not
  /// be overwritten, so that the user who fixes the cause finds it unchanged
  [[nodiscard]] Answer<State> load() const;

  /// The remedy for an errno of reading or writing it.
  [[nodiscard]] static std::string_view remedy_for(int error);

  [[nodiscard]] std::filesystem::path path() const { return folder_ / "state.json"; }

 private:
  [[nodiscard]] Answer<State> move_to_backup(std::string_view why) const;
  [[nodiscard]] std::unexpected<Refusal> refuse_to_load(const std::string& why,
                                                        std::string_view remedy) const;

  std::filesystem::path folder_;
};

/// The numbers of an Instance when the daemon stopped.
struct InstanceRecord {
  Instance instance;
  bool ended = false;  ///< orderly: each PortAdded was followed by its PortRemoved
  friend bool operator==(const InstanceRecord&, const InstanceRecord&) = default;
};
/// One line, always of the same length. Precondition: both ids are set.
[[nodiscard]] std::string to_text(const InstanceRecord& record);
/// @return nothing for a text that to_text() does not make
[[nodiscard]] std::optional<InstanceRecord> parse_instance(std::string_view text);

/// What the daemon continues with after a restart.
struct Resumed {
  Instance instance;
  bool continues = false;  ///< with the InstanceId of the last run
  /// False: ids of containers may have been used that are not in State::used_ids.
  bool knows_used_ids = true;
};
/// The InstanceId stays, and the numbers of events continue without a gap, if the record is of this
/// boot. After a stop that was not orderly one number is left out for a Gap, which notifies clients
/// that events are missing: PortRemoved was not emitted, and the State may lack the last changes.
/// Without a record, as after a reboot, no number is known to be unused, since the disk may have
/// lost the last State: the InstanceId is a new one. Ids that are kept stay unique.
/// @param saved its lists of one boot are cleared if they are of another boot than `boot`
/// @param boot of this machine now; "": not known @param new_id the InstanceId if it changes
[[nodiscard]] Resumed resume(State& saved, const std::optional<InstanceRecord>& record,
                             const std::string& boot, std::string new_id);

// The numbers of the Instance on a file system that outlives the process: written before a number
// leaves the daemon, without fsync(2), so that they are exact after SIGKILL and unknown after a
// reboot. A write is one small pwrite(2) into the page cache, and does not wait for a disk if the
// folder is the runtime folder (tmpfs). The file is locked, so that two daemons never share
// numbers. Owned by main.
class InstanceFile {
 public:
  /// @param folder created when it is missing @param state_folder daemons with different state
  /// folders have different files
  InstanceFile(const std::filesystem::path& folder, const std::filesystem::path& state_folder);

  /// Opens and locks the file, and creates it when it is missing. Must be called once, at the
  /// start.
  /// @return what the last run has left; nothing when it left nothing, or when the file cannot be
  /// used, which is logged
  [[nodiscard]] std::optional<InstanceRecord> open();
  /// Does nothing when the file cannot be used: then each run is a new Instance.
  void write(const InstanceRecord& record);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  void give_up(const Error& error);

  std::filesystem::path path_;
  UniqueFd file_;
  InstanceRecord written_;
};

}  // namespace portfwd
