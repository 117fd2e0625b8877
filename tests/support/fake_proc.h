// A folder that looks like /proc to ProcDir; the test starts and ends its processes.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace portfwd::testing_support {

class FakeProc {
 public:
  FakeProc() {
    std::string name = std::filesystem::temp_directory_path() / "portfwd-proc-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  FakeProc(const FakeProc&) = delete;
  FakeProc& operator=(const FakeProc&) = delete;
  ~FakeProc() { std::filesystem::remove_all(path_); }

  [[nodiscard]] const std::string& path() const { return path_; }
  void start(int pid, std::uint64_t netns) {
    std::filesystem::create_directories(folder(pid) + "/ns");
    std::error_code there_already;
    std::filesystem::create_symlink("user:[1]", folder(pid) + "/ns/user", there_already);
    move(pid, netns);
  }
  void move(int pid, std::uint64_t netns) {
    const std::string link = folder(pid) + "/ns/net";
    std::filesystem::remove(link);
    std::filesystem::create_symlink("net:[" + std::to_string(netns) + "]", link);
  }
  void write(int pid, const std::string& file, const std::string& text) {
    std::ofstream(folder(pid) + "/" + file) << text;
  }
  /// Another process gets the pid of one that has ended: its folder is another one.
  void replace(int pid, std::uint64_t netns) {
    const std::string old = path_ + "/gone-" + std::to_string(pid);
    std::filesystem::rename(folder(pid), old);  // keeps the old inode in use
    start(pid, netns);
  }
  void end(int pid) { std::filesystem::remove_all(folder(pid)); }

 private:
  [[nodiscard]] std::string folder(int pid) const { return path_ + "/" + std::to_string(pid); }
  std::string path_;
};

}  // namespace portfwd::testing_support
