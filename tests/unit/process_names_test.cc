// What a process tells of itself: name, command line, and whether it wants to be left alone.
#include "reach/process_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/fake_proc.h"

namespace portfwd {
namespace {

using namespace std::string_literals;

TEST(ProcessNames, ACommandLineIsItsWordsAndOneSpaceBetween) {
  EXPECT_EQ(command_text("node\0/app/vite\0--port\0"
                         "5173\0"s),
            "node /app/vite --port 5173");
  EXPECT_EQ(command_text("postgres: writer process\0\0\0"s), "postgres: writer process")
      << "programs that overwrite their title leave zeros behind";
  EXPECT_EQ(command_text(""), "");
}

TEST(ProcessNames, AProcessIsLeftAloneIfItsEnvironmentSaysSo) {
  testing_support::FakeProc folder;
  folder.start(7, 1);
  folder.write(7, "comm", "node\n");
  folder.write(7, "cmdline", "node\0server.js\0"s);
  folder.write(7, "environ", std::string(20000, 'x') + "\0PORTFWD=off\0"s);
  const ProcDir proc(folder.path());
  Listener read;
  describe_process(proc, 7, read);
  EXPECT_EQ(read.process, "node");
  EXPECT_EQ(read.command, "node server.js");
  EXPECT_TRUE(read.opted_out);
  folder.write(7, "environ", "PORTFWD=offline\0XPORTFWD=off\0"s);
  describe_process(proc, 7, read);
  EXPECT_FALSE(read.opted_out);
}

/// Knows nobody, and says for whom it was asked.
struct Nobody final : ProcessNames {
  void name(std::uint64_t, std::span<Listener* const> listeners) override {
    for (Listener* listener : listeners) {
      asked.push_back(listener->local.port);
      listener->process = "new";
    }
  }
  std::vector<Port> asked;
};

Listener listener(Port port, std::uint64_t cookie) {
  Listener l;
  l.local = {IpAddress::loopback(Family::V4), port};
  l.cookie = cookie;
  return l;
}

TEST(ProcessNames, AreLookedUpOnceInASocketsLife) {
  std::vector<Listener> before{listener(1, 10), listener(2, 20)};
  before[0].process = "nginx";
  before[0].command = "nginx -g daemon off;";
  before[0].opted_out = true;
  std::vector<Listener> now{listener(1, 10), listener(2, 21), listener(3, 30)};
  Nobody names;
  names.name_new(1, before, now);
  EXPECT_THAT(names.asked, testing::ElementsAre(2, 3)) << "2 is another socket now";
  EXPECT_EQ(now[0].command, "nginx -g daemon off;");
  EXPECT_TRUE(now[0].opted_out);
  EXPECT_EQ(now[1].process, "new");
}

}  // namespace
}  // namespace portfwd
