// Remedies: what the user can do about a problem, as a code with arguments. The daemon sends them
// to its clients with a sentence for programs that do not word codes themselves. The sentences name
// no command line of portfwdctl, since they are read in desktop notifications and logs as well;
// each client words the codes in its own terms, portfwdctl as commands.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace portfwd {

enum class RemedyCode : std::uint8_t {
  // For the server or the container.
  StartServer,
  StartContainer,
  AttachContainer,
  AttachProcess,
  MakeAccessible,
  MakeReachable,
  LeaveHostNetwork,
  SetLoopbackUp,
  SetInterfaceUp,
  CheckServer,
  // For the port or its forward.
  ExplainPort,
  ExplainAgain,
  ForwardPort,
  HoldPort,
  HoldPortForMissing,
  EndForward,
  UseHostPort,
  FreeHostPort,
  FreeContainerPort,
  ChooseHostPort,
  ChooseBindAddress,
  // For the configuration.
  ChangeConfiguration,
  ChangeDeclaration,
  IgnorePort,
  IncludeSocket,
  SkipSettle,
  AllowFallback,
  WidenFallbackRange,
  RaiseMaxForwards,
  RaiseMaxSockets,
  AllowRemote,
  // For the machine.
  RaiseDescriptorLimit,
  LowerUnprivilegedPort,
};
inline constexpr std::size_t kRemedyCodes =
    static_cast<std::size_t>(RemedyCode::LowerUnprivilegedPort) + 1;  ///< add new codes before it

struct Remedy {
  RemedyCode code;
  std::vector<std::string> arguments = {};  ///< RemedyRow::arguments of them

  friend bool operator==(const Remedy&, const Remedy&) = default;
};

struct RemedyRow {
  RemedyCode code;
  std::string_view name;      ///< on the bus and in JSON; org.portfwd1(5) lists them
  std::size_t arguments;      ///< their number
  std::string_view sentence;  ///< format string
};

/// In the order of the codes.
inline constexpr std::array<RemedyRow, kRemedyCodes> kRemedies{{
    {RemedyCode::StartServer, "start-server", 0, "start the server"},
    {RemedyCode::StartContainer, "start-container", 1, "start container {}"},
    {RemedyCode::AttachContainer, "attach-container", 1,
     "attach container {} again by a process in it"},
    {RemedyCode::AttachProcess, "attach-process", 2,
     "attach container {1} again by its process {0}"},
    {RemedyCode::MakeAccessible, "make-accessible", 1, "{}"},
    {RemedyCode::MakeReachable, "make-reachable", 1, "{}"},
    {RemedyCode::LeaveHostNetwork, "leave-host-network", 0,
     "start the container with a network of its own"},
    {RemedyCode::SetLoopbackUp, "set-loopback-up", 0,
     "set the loopback interface up in the container (`ip link set lo up`)"},
    {RemedyCode::SetInterfaceUp, "set-interface-up", 1,
     "set the interface that has {} up in the container (`ip link set INTERFACE up`)"},
    {RemedyCode::CheckServer, "check-server", 0, "check that the server accepts connections"},
    {RemedyCode::ExplainPort, "explain-port", 2, "ask about port {1} instead"},
    {RemedyCode::ExplainAgain, "explain-again", 0, "ask again in a moment"},
    {RemedyCode::ForwardPort, "forward-port", 2, "forward the port manually"},
    {RemedyCode::HoldPort, "hold-port", 2, "hold the port with a manual forward"},
    {RemedyCode::HoldPortForMissing, "hold-port-for-missing", 2,
     "hold the port with a manual forward that allows a missing container"},
    {RemedyCode::EndForward, "end-forward", 1, "end forward {}"},
    {RemedyCode::UseHostPort, "use-host-port", 1, "connect to port {} of the host"},
    {RemedyCode::FreeHostPort, "free-host-port", 0, "free the host port"},
    {RemedyCode::FreeContainerPort, "free-container-port", 0, "free the port in the container"},
    {RemedyCode::ChooseHostPort, "choose-host-port", 0, "choose another host port"},
    {RemedyCode::ChooseBindAddress, "choose-bind-address", 0,
     "set bind to an address of this machine (`ip address` lists them)"},
    {RemedyCode::ChangeConfiguration, "change-configuration", 0, "change the configuration"},
    {RemedyCode::ChangeDeclaration, "change-declaration", 0,
     "change its [[forward]] in the configuration"},
    {RemedyCode::IgnorePort, "ignore-port", 0,
     "exclude the port by a rule with on_auto_forward = \"ignore\""},
    {RemedyCode::IncludeSocket, "include-socket", 1, "add \"{}\" to [unix] include"},
    {RemedyCode::SkipSettle, "skip-settle", 0, "add a rule for it with settle = \"0s\""},
    {RemedyCode::AllowFallback, "allow-fallback", 0,
     "allow other host ports with require_host_port = false"},
    {RemedyCode::WidenFallbackRange, "widen-fallback-range", 0, "widen [host] fallback_range"},
    {RemedyCode::RaiseMaxForwards, "raise-max-forwards", 0, "raise [host] max_forwards"},
    {RemedyCode::RaiseMaxSockets, "raise-max-sockets", 0, "raise [unix] max_sockets"},
    {RemedyCode::AllowRemote, "allow-remote", 0,
     "set allow_remote = true in [host] of config.toml and reload the configuration"},
    {RemedyCode::RaiseDescriptorLimit, "raise-descriptor-limit", 0, kMoreDescriptors},
    {RemedyCode::LowerUnprivilegedPort, "lower-unprivileged-port", 0,
     "lower the sysctl net.ipv4.ip_unprivileged_port_start"},
}};

/// Whether a table has one row per code, in the order of the codes.
template <class Table>
consteval bool has_each_remedy(const Table& table) {
  if (table.size() != kRemedyCodes) return false;
  for (std::size_t i = 0; i < kRemedyCodes; ++i) {
    if (table[i].code != static_cast<RemedyCode>(i)) return false;
  }
  return true;
}
static_assert(has_each_remedy(kRemedies));

[[nodiscard]] constexpr const RemedyRow& row_of(RemedyCode code) {
  return kRemedies[static_cast<std::size_t>(code)];
}

/// @return none for a name that this program does not know
[[nodiscard]] constexpr std::optional<RemedyCode> remedy_code(std::string_view name) {
  const auto* row = std::ranges::find(kRemedies, name, &RemedyRow::name);
  return row == kRemedies.end() ? std::nullopt : std::optional(row->code);
}

/// Inserts up to two arguments into a format string.
[[nodiscard]] inline std::string with_arguments(std::string_view format,
                                                const std::vector<std::string>& arguments) {
  const auto at = [&](std::size_t i) {
    return i < arguments.size() ? arguments[i] : std::string();
  };
  return fmt::format(fmt::runtime(format), at(0), at(1));
}

/// The remedies as alternatives: "start the server, or end forward f2".
[[nodiscard]] inline std::string remedy_sentence(const std::vector<Remedy>& remedies) {
  std::string out;
  for (const Remedy& remedy : remedies) {
    assert(remedy.arguments.size() == row_of(remedy.code).arguments);
    if (!out.empty()) out += ", or ";
    out += with_arguments(row_of(remedy.code).sentence, remedy.arguments);
  }
  return out;
}

}  // namespace portfwd
