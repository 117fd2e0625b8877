// What must outlive the daemon, as plain values, and its text: JSON with a version. The registry,
// the forward table and the event log own what is true; a State is a copy of it, made to be written
// and read once at start.
//
// A restart of the daemon keeps the ids of what stays and goes on with the numbers of events. For
// the numbers the State does not suffice, since it is written at most once a second: a number that
// was given out after the last write must not be given out again. The InstanceFile has the exact
// numbers; resume() puts both together.
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

/// The loopback address that is a container's own.
struct ContainerAddress {
  std::string container;
  IpAddress address;
  friend bool operator==(const ContainerAddress&, const ContainerAddress&) = default;
};

/// An InstanceId, and the next number of each kind under it. Numbers are from 1 on and given out
/// once.
struct Instance {
  static constexpr std::uint64_t kMostNumber = std::uint64_t{1} << 53;  ///< exact in any JSON

  std::string id;    ///< "": there was none
  std::string boot;  ///< the kernel's random id of the boot in which the numbers were given out
  std::uint64_t next_event = 1;
  std::uint64_t next_forward = 1;    ///< in the id of a forward
  std::uint64_t next_container = 1;  ///< in the id of a container
  friend bool operator==(const Instance&, const Instance&) = default;
};

/// The id of a forward, and what the forward ties.
struct KnownForward {
  std::string id;
  std::string container;       ///< as ForwardKey has it
  std::string container_name;  ///< by which a request waits for its container
  Target target;
  Direction direction = Direction::In;
  bool requested = false;  ///< by hand or by a declaration
  friend bool operator==(const KnownForward&, const KnownForward&) = default;
};

/// Of ports and addresses, the one that was used longest ago comes first.
struct State {
  static constexpr std::size_t kMostContainers = 1024;
  static constexpr std::size_t kMostForwards = 4096;
  static constexpr std::size_t kMostUsedIds = 4096;

  std::vector<StickyPort> ports;
  std::vector<ContainerAddress> addresses;
  std::vector<ForwardSpec> forwards;  ///< those with `persist`
  std::vector<OptOut> opt_outs;
  Instance instance;
  // Of this boot alone: processes and network namespaces do not outlive it.
  std::vector<KnownContainer> containers;
  std::vector<KnownForward> forward_ids;
  std::vector<std::string> used_ids;  ///< of containers, made of an engine's id
  friend bool operator==(const State&, const State&) = default;
};

/// One line for each entry. Bytes in a name that are no UTF-8 become U+FFFD.
/// @param most bytes. What does not fit, or would be too much for read_json(), is left out: host
/// ports that were used longest ago first, then addresses, then ids, then forwards.
[[nodiscard]] std::string to_text(const State& state,
                                  std::size_t most = std::numeric_limits<std::size_t>::max());
/// An entry of the lists of one boot that makes no sense is left out, as that costs an id alone;
/// any other one makes the text unusable.
/// @return why it is not one that to_text() made: cut off, edited, or of another version.
/// Inaccessible: a later portfwd has made it, to which it is not damaged
[[nodiscard]] Answer<State> parse_state(std::string_view text);

// Where the State is kept: state.json in a folder of its own, mode 0600. It is read once, before
// anybody is served; a FileWriter writes it, so that whoever dies at whatever moment leaves the old
// one or the new one. Owned by main. It knows neither when to write nor what the values mean.
class StateFile {
 public:
  static constexpr std::size_t kMostBytes = 8 * 1024 * 1024;  ///< neither written nor read
  static constexpr int kMostBackups = 10;                     ///< of damaged files

  explicit StateFile(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// What was saved last; an empty State when there is none, or when the file was damaged and is
  /// set aside as state.json.damaged, or .damaged.1 to .damaged.9, which is logged. A backup is
  /// never replaced.
  /// @return why there can be a good file that could not be read, which is logged, too. It must not
  /// be written over: whoever mends the cause finds it as it was.
  [[nodiscard]] Answer<State> load() const;

  /// What the user can do about an errno of reading or writing it.
  [[nodiscard]] static std::string_view remedy_for(int error);

  [[nodiscard]] std::filesystem::path path() const { return folder_ / "state.json"; }

 private:
  [[nodiscard]] Answer<State> set_aside(std::string_view why) const;
  [[nodiscard]] std::unexpected<Refusal> leave(const std::string& why,
                                               std::string_view remedy) const;

  std::filesystem::path folder_;
};

/// The numbers of an Instance when the daemon ended.
struct InstanceRecord {
  Instance instance;
  bool ended = false;  ///< in order: each PortAdded has got its PortRemoved
  friend bool operator==(const InstanceRecord&, const InstanceRecord&) = default;
};
/// One line, always of the same length. Precondition: both ids are there.
[[nodiscard]] std::string to_text(const InstanceRecord& record);
/// @return nothing for a text that to_text() does not make
[[nodiscard]] std::optional<InstanceRecord> parse_instance(std::string_view text);

/// What the daemon's next life goes on with.
struct Resumed {
  Instance instance;
  bool continues = false;  ///< the InstanceId of the last life
  /// False: ids of containers may have been used that State::used_ids does not have.
  bool knows_used_ids = true;
};
/// The InstanceId stays, and the numbers of events go on without a gap, if the record is of this
/// boot. After an end that was not in order one number is left out for a Gap, with which clients
/// are told that events are missing: PortRemoved was not emitted, and the State may lack what
/// changed last. Without a record, as after a reboot, no number can be proved to be unused, since
/// the disk may have lost the last State: the InstanceId is a new one. Ids that are kept stay
/// unique.
/// @param saved of another boot than `boot`: its lists of one boot become empty
/// @param boot of this machine now; "": not known @param new_id the InstanceId if it changes
[[nodiscard]] Resumed resume(State& saved, const std::optional<InstanceRecord>& record,
                             const std::string& boot, std::string new_id);

// The numbers of the Instance on a file system that outlives the process: written before a number
// leaves the daemon, without fsync(2), so that they are exact after SIGKILL and unknown after a
// reboot. A write is one small pwrite(2) into the page cache and does not wait for a disk if the
// folder is the runtime folder (tmpfs). The file is locked, so that two daemons never share
// numbers. Owned by main.
class InstanceFile {
 public:
  /// @param folder made when it is missing @param state_folder the daemons of different state
  /// folders have different files
  InstanceFile(const std::filesystem::path& folder, const std::filesystem::path& state_folder);

  /// Opens and locks the file, which is made when it is missing. To be called once, at the start.
  /// @return what the life before has left; nothing: nothing, or the file cannot be used, which is
  /// logged
  [[nodiscard]] std::optional<InstanceRecord> open();
  /// Does nothing when the file cannot be used: then each life is a new Instance.
  void write(const InstanceRecord& record);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  void give_up(const Error& error);

  std::filesystem::path path_;
  UniqueFd file_;
  InstanceRecord written_;
};

}  // namespace portfwd
