
#include "access/container_access.h"

#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>

#include <cstdio>
#include <memory>
#include <optional>

namespace portfwd {

std::string_view name_of(ContainerState v) {
  switch (v) {
    case ContainerState::Watched:
      return "watched";
    case ContainerState::Inaccessible:
      return "inaccessible";
    case ContainerState::Ignored:
      return "ignored";
  }
  return "";
}

std::string_view name_of(AccessKind v) {
  switch (v) {
    case AccessKind::None:
      return "none";
    case AccessKind::Broker:
      return "broker";
    case AccessKind::Helper:
      return "helper";
    case AccessKind::Bridge:
      return "bridge";
  }
  return "";
}

std::string_view how(AccessKind v) {
  switch (v) {
    case AccessKind::None:
      return "not at all";
    case AccessKind::Broker:
      return "entered through broker: its own loopback is dialled";
    case AccessKind::Helper:
      return "entered through helper: its own loopback is dialled";
    case AccessKind::Bridge:
      return "seen from outside: its own address is dialled, its loopback cannot be";
  }
  return "";
}

namespace {

struct FileCloser {
  void operator()(std::FILE* file) const { (void)std::fclose(file); }
};

struct Group {
  std::string name;
  bool has_user = false;
};

bool lists(char* const* members, const std::string& user) {
  for (; *members != nullptr; ++members) {
    if (user == *members) return true;
  }
  return false;
}

/// Looks up a group in the file. Does not use getgrgid(3), which may query a directory server and
/// block.
std::optional<Group> find_group(const char* file, gid_t gid, const std::string& user) {
  const std::unique_ptr<std::FILE, FileCloser> groups(std::fopen(file, "re"));
  if (!groups) return std::nullopt;
  while (const group* entry = ::fgetgrent(groups.get())) {
    if (entry->gr_gid == gid) return Group{entry->gr_name, lists(entry->gr_mem, user)};
  }
  return std::nullopt;
}

}  // namespace

std::string hint_to_join_group(const std::string& socket, const User& user, const char* groups) {
  struct stat found {};
  if (::stat(socket.c_str(), &found) != 0) return {};
  if (found.st_gid == 0 || (found.st_mode & S_IWGRP) == 0) return {};
  const auto group = find_group(groups, found.st_gid, user.name);
  if (!group) return {};
  const std::string restart = fmt::format(
      "`sudo systemctl restart user@{}`, or log out of all sessions for ten seconds (newgrp is not "
      "enough)",
      user.uid);
  if (group->has_user) {
    return fmt::format("activate your membership of the group {}: {}", group->name, restart);
  }
  return fmt::format("join the group {}: `sudo usermod -aG {} {}`, then {}", group->name,
                     group->name, user.name.empty() ? "$USER" : user.name, restart);
}

}  // namespace portfwd
