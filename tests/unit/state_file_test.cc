// The daemon's state and instance files: written, read, truncated, damaged, and not writable.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <sstream>

#include "broker/client/file_writer.h"
#include "build_paths.h"
#include "state/container_memory.h"
#include "state/state.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

State some_state() {
  return {.ports = {{"web", {Protocol::Tcp, 8080}, 20000},
                    {"a \"name\"\\ of\nhostile\x01 bytes", {Protocol::Udp, 1}, 65535},
                    {"Übersicht", {Protocol::Tcp, 65535}, 1}},
          .addresses = {{"web", IpAddress::v4(127, 1, 2, 3)},
                        {"shop", IpAddress::v4(127, 254, 255, 254)}},
          .forwards = {{.container = "web", .target = {Protocol::Tcp, 80}, .persist = true},
                       {.container = "db",
                        .target = {Protocol::Tcp, 5432},
                        .direction = Direction::Reverse,
                        .host_port = 15432,
                        .bind = "::1",
                        .container_address = "10.0.0.1",
                        .label = "mine",
                        .persist = true}},
          .opt_outs = {{"6f2c", 4711, 1'234'567'890'123}},
          .instance = {"0a1b", "6f2c", 58, 13, 8},
          .containers = {{.id = "a1b2c3d4e5f6",
                          .name = "web",
                          .engine = "podman",
                          .engine_id = "a1b2c3d4e5f6a7",
                          .netns = 4026532281,
                          .pid = 4711,
                          .started = 1'234'567'890'123},
                         {.id = "n7", .name = "Übersicht"}},
          .forward_ids = {{.id = "f12", .container = "n7", .target = {Protocol::Udp, 53}},
                          {.id = "r3",
                           .container = "?shop",
                           .container_name = "shop",
                           .target = {Protocol::Tcp, 5432},
                           .direction = Direction::Reverse,
                           .requested = true}},
          .used_ids = {"a1b2c3d4e5f6", "000000000001"}};
}

std::string read_file(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class StateFileTest : public testing::Test {
 protected:
  [[nodiscard]] bool exists(const std::string& name) const {
    return std::filesystem::exists(folder.path() + "/state/portfwd/" + name);
  }
  void write(std::string_view text) const {
    std::filesystem::create_directories(file.path().parent_path());
    std::ofstream(file.path()) << text;
  }

  Result<void> save(const State& state) {
    std::optional<Result<void>> result;
    writer.replace(file.path().string(), to_text(state, StateFile::kMostBytes),
                   [&](Result<void> saved) { result = std::move(saved); });
    while (!result && loop.turn(std::chrono::seconds(10))) {
    }
    return result.value_or(fail("turn", EIO));
  }

  testing_support::TempDir folder;
  StateFile file{folder.path() + "/state/portfwd"};
  SystemClock clock;
  EventLoop loop{clock};
  FileWriter writer{loop, PORTFWD_BROKER_PATH};
};

TEST(StateText, ComesBackAsItWas) {
  EXPECT_EQ(parse_state(to_text(some_state())), some_state());
  EXPECT_EQ(parse_state(to_text(State{})), State{});
  EXPECT_EQ(parse_state("{\"version\":1}"), State{});
}

TEST(StateText, TakesBytesThatAreNoUtf8) {
  const auto back = parse_state(to_text({.ports = {{"\xff", {Protocol::Tcp, 1}, 1}}}));
  ASSERT_TRUE(back) << back.error().text;
  EXPECT_EQ(back->ports.at(0).container, "\uFFFD");
}

TEST(StateText, LeavesOutOldPortsFirstAndForwardsLast) {
  State state = some_state();
  state.ports.clear();
  for (Port port = 1; port <= 2000; ++port) {  // each control byte takes six bytes in JSON
    state.ports.push_back({std::string(1000, '\x01'), {Protocol::Tcp, port}, port});
  }
  constexpr std::size_t kMost = 1 << 20;
  const std::string text = to_text(state, kMost);
  EXPECT_LE(text.size(), kMost);
  const auto back = parse_state(text);
  ASSERT_TRUE(back) << back.error().text;
  EXPECT_EQ(back->forwards, state.forwards);
  EXPECT_EQ(back->addresses, state.addresses);
  ASSERT_GT(back->ports.size(), 100U);
  EXPECT_EQ(back->ports.back(), state.ports.back());
  EXPECT_EQ(back->ports.front().host_port, 2001U - back->ports.size());

  state.forwards.assign(3000, state.forwards.front());
  for (auto& forward : state.forwards) forward.label = std::string(1000, '\x02');
  const auto only_forwards = parse_state(to_text(state, kMost));
  ASSERT_TRUE(only_forwards) << only_forwards.error().text;
  EXPECT_TRUE(only_forwards->ports.empty());
  EXPECT_FALSE(only_forwards->forwards.empty());
  EXPECT_TRUE(parse_state(to_text(state, 0)));
}

/// States written by older daemons have none of these ids.
TEST(StateText, LeavesOutIdsThatMakeNoSense) {
  const std::string container =
      R"({"engine":"","engine_id":"","id":"n1","name":"","netns":1,"pid":1,"started":1})";
  const std::string forward = R"({"container":"n1","id":"f1","target":"80"})";
  const auto parsed = parse_state(fmt::format(
      R"({{"version":1,"containers":[1,{{}},{0},{{"id":"n2"}}],"forward_ids":[{1},null,)"
      R"({{"container":"n1","id":"../f","target":"80"}},)"
      R"({{"container":"n1","id":"f2","target":"x"}},)"
      R"({{"container":"n1","id":"f3","target":"80","reverse":1}}],)"
      R"("used_ids":["a",7,"",{{}}],"instance":{{"id":"x"}}}})",
      container, forward));
  ASSERT_TRUE(parsed) << parsed.error().text;
  ASSERT_EQ(parsed->containers.size(), 1U);
  EXPECT_EQ(parsed->containers[0].id, "n1");
  ASSERT_EQ(parsed->forward_ids.size(), 1U);
  EXPECT_EQ(parsed->forward_ids[0].id, "f1");
  EXPECT_EQ(parsed->used_ids, std::vector<std::string>{"a"});
  EXPECT_EQ(parsed->instance, Instance{});
  for (const char* text :
       {R"({"version":1,"containers":{},"forward_ids":1,"used_ids":"a","instance":[]})",
        R"({"version":1,"instance":{"id":"a","boot":"b","next_event":0,"next_forward":1,
            "next_container":1}})",
        R"({"version":1,"instance":{"id":"a","boot":"b","next_event":18446744073709551615,
            "next_forward":1,"next_container":1}})"}) {
    EXPECT_EQ(parse_state(text), State{}) << text;
  }
}

TEST(StateText, ReadsNoMoreIdsThanItsBounds) {
  State state;
  for (std::size_t i = 0; i < 2 * State::kMostForwards; ++i) {
    state.forward_ids.push_back(
        {.id = fmt::format("f{}", i + 1), .container = "n1", .target = {Protocol::Tcp, 80}});
  }
  state.containers.resize(2 * State::kMostContainers, {.id = "n1"});
  state.used_ids.resize(2 * State::kMostUsedIds, "a");
  const auto back = parse_state(to_text(state));
  ASSERT_TRUE(back) << back.error().text;
  EXPECT_EQ(back->forward_ids.size(), State::kMostForwards);
  EXPECT_EQ(back->containers.size(), State::kMostContainers);
  EXPECT_EQ(back->used_ids.size(), State::kMostUsedIds);
}

/// read_json() accepts at most 65536 values.
TEST(StateText, LeavesOutWhatWouldBeTooManyValuesToRead) {
  State state = some_state();
  state.opt_outs.resize(4096, state.opt_outs.front());
  state.ports.resize(20000, state.ports.front());
  const auto back = parse_state(to_text(state));
  ASSERT_TRUE(back) << back.error().text;
  EXPECT_EQ(back->opt_outs.size(), 4096U);
  EXPECT_EQ(back->forward_ids, state.forward_ids);
  EXPECT_GT(back->ports.size(), 10000U);
}

InstanceRecord some_record() {
  return {.instance = {.id = "00112233445566778899aabbccddeeff",
                       .boot = "6f2c1f0e-0000-4000-8000-000000000000",
                       .next_event = 58,
                       .next_forward = 13,
                       .next_container = Instance::kMostNumber},
          .ended = true};
}

TEST(InstanceText, ComesBackAsItWas) {
  EXPECT_EQ(parse_instance(to_text(some_record())), some_record());
  EXPECT_EQ(to_text(some_record()).size(), to_text({{"a", "b"}, false}).size());
}

TEST(InstanceText, IsRefusedWhenItIsNotOurs) {
  const std::string text = to_text(some_record());
  EXPECT_FALSE(parse_instance(""));
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_FALSE(parse_instance(text.substr(0, size)));
  }
  for (const auto& [from, to] : {std::pair("58", " 0"),
                                 {"58", "-1"},
                                 {"0011", "00 1"},
                                 {"true", "1   "},
                                 {"\"version\":1", "\"version\":2"}}) {
    std::string other = text;
    other.replace(other.find(from), std::string_view(from).size(), to);
    EXPECT_FALSE(parse_instance(other)) << other;
  }
}

/// A state with the same numbers as the record.
State state_of(const InstanceRecord& record) {
  State state = some_state();
  state.instance = record.instance;
  return state;
}

TEST(Resume, GoesOnExactlyAfterAnEndInOrder) {
  const InstanceRecord record = some_record();
  State state = state_of(record);
  const Resumed resumed = resume(state, record, record.instance.boot, "new");
  EXPECT_EQ(resumed.instance, record.instance);
  EXPECT_TRUE(resumed.continues);
  EXPECT_TRUE(resumed.knows_used_ids);
  EXPECT_EQ(state, state_of(record));
}

TEST(Resume, LeavesOneNumberForAGapAfterAnyOtherEnd) {
  InstanceRecord record = some_record();
  record.ended = false;
  State state = state_of(record);
  Resumed resumed = resume(state, record, record.instance.boot, "new");
  EXPECT_EQ(resumed.instance.id, record.instance.id);
  EXPECT_EQ(resumed.instance.next_event, 59U);
  EXPECT_TRUE(resumed.knows_used_ids);

  for (const bool ended : {false, true}) {  // the state does not contain the last events
    record.ended = ended;
    state = state_of(record);
    state.instance.next_event = 57;
    state.instance.next_forward = 12;
    resumed = resume(state, record, record.instance.boot, "new");
    EXPECT_EQ(resumed.instance.next_event, 59U);
    EXPECT_EQ(resumed.instance.next_forward, 13U);
    EXPECT_TRUE(resumed.continues);
    EXPECT_FALSE(resumed.knows_used_ids);
    EXPECT_FALSE(state.containers.empty());
  }
}

TEST(Resume, GoesOnWithoutAState) {
  State lost;
  const Resumed resumed = resume(lost, some_record(), some_record().instance.boot, "new");
  EXPECT_EQ(resumed.instance.id, some_record().instance.id);
  EXPECT_EQ(resumed.instance.next_event, 59U);
  EXPECT_FALSE(resumed.knows_used_ids);
}

TEST(Resume, IsANewInstanceWithoutARecordOfThisBoot) {
  const InstanceRecord record = some_record();
  State state = state_of(record);
  Resumed resumed = resume(state, std::nullopt, record.instance.boot, "new");
  EXPECT_EQ(resumed.instance.id, "new");
  EXPECT_EQ(resumed.instance.next_event, 1U);
  EXPECT_FALSE(resumed.continues);
  EXPECT_EQ(state, state_of(record)) << "the ids of existing containers are kept";
  EXPECT_EQ(resumed.instance.next_forward, 13U);

  for (const char* boot : {"another", ""}) {
    state = state_of(record);
    resumed = resume(state, record, boot, "new");
    EXPECT_EQ(resumed.instance, (Instance{.id = "new", .boot = boot}));
    EXPECT_TRUE(state.containers.empty());
    EXPECT_TRUE(state.forward_ids.empty());
    EXPECT_TRUE(state.used_ids.empty());
    EXPECT_EQ(state.ports, some_state().ports);
  }
}

TEST(Resume, GoesOnAsIfNothingWereMissingWhenThereWasNothing) {
  InstanceRecord record = some_record();
  record.instance.next_event = 1;
  record.ended = false;
  State none;
  const Resumed resumed = resume(none, record, record.instance.boot, "new");
  EXPECT_EQ(resumed.instance.next_event, 1U);
  EXPECT_TRUE(resumed.knows_used_ids);
}

class InstanceFileTest : public testing::Test {
 protected:
  [[nodiscard]] InstanceFile file(const std::string& state = "state") const {
    return {folder.path() + "/run/portfwd", folder.path() + "/" + state};
  }
  testing_support::TempDir folder;
};

TEST_F(InstanceFileTest, HasWhatWasWrittenLastForTheNextLife) {
  std::optional<InstanceFile> one(file());
  EXPECT_FALSE(one->open());
  InstanceRecord record = some_record();
  one->write(record);
  record.instance.next_event = 100000;
  record.ended = false;
  one->write(record);
  one.reset();
  struct stat seen {};
  ASSERT_EQ(::stat(file().path().c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 0777, 0600U);
  EXPECT_EQ(file().open(), record);
  EXPECT_FALSE(file("another").open()) << "of another state folder";
}

TEST_F(InstanceFileTest, IsOfOneDaemonAtATime) {
  InstanceFile one = file();
  EXPECT_FALSE(one.open());
  one.write(some_record());
  {
    InstanceFile two = file();
    EXPECT_FALSE(two.open());
    InstanceRecord other = some_record();
    other.instance.id = "other";
    two.write(other);
  }
  EXPECT_EQ(parse_instance(read_file(one.path())), some_record());
}

TEST_F(InstanceFileTest, DoesWithoutWhenItCannotBeUsed) {
  for (const bool text : {false, true}) {
    InstanceFile one = file();
    std::filesystem::create_directories(one.path().parent_path());
    if (text) {
      std::ofstream(one.path()) << "nonsense";
    } else {
      std::filesystem::create_directory(one.path());
    }
    EXPECT_FALSE(one.open());
    one.write(some_record());
    if (text) {
      EXPECT_EQ(parse_instance(read_file(one.path())), some_record()) << "it is replaced";
    }
    std::filesystem::remove(one.path());
  }
}

TEST_F(StateFileTest, CanReadWhateverItHasWritten) {
  State state = some_state();
  for (int i = 0; i < 9; ++i) state.ports.push_back({std::string(1 << 20, 'x'), {}, 1});
  for (auto& port : state.ports) port.target = {Protocol::Tcp, 80};
  ASSERT_TRUE(save(state));
  const State back = file.load().value();
  EXPECT_EQ(back.forwards, state.forwards);
  EXPECT_EQ(back.ports.size(), 7U);
}

TEST(StateText, IsRefusedWhenItIsNotOurs) {
  for (const char* text :
       {"", "{}", "[]", "null", "{\"version\":2,\"ports\":[]}", "{\"version\":\"1\",\"ports\":[]}",
        "{\"version\":1,\"ports\":{}}", "{\"version\":1,\"ports\":[1]}",
        R"({"version":1,"ports":[{"container":"a","port":"80"}]})",
        R"({"version":1,"ports":[{"container":"a","port":"80","host_port":0}]})",
        R"({"version":1,"ports":[{"container":"a","port":"80","host_port":65536}]})",
        R"({"version":1,"ports":[{"container":"a","port":"80","host_port":-1}]})",
        R"({"version":1,"ports":[{"container":"a","port":80,"host_port":1}]})",
        R"({"version":1,"addresses":[{"container":"a","address":"localhost"}]})",
        R"({"version":1,"opt_outs":[{"boot":"a","pid":4294967296,"started":1}]})",
        R"({"version":1,"opt_outs":[{"boot":"a","pid":1,"started":-1}]})",
        R"({"version":1,"forwards":[{"container":"a","target":"80","reverse":false}]})",
        R"({"version":1,"forwards":[{"container":"a","target":"80","reverse":1,"bind":"",
            "address":"","label":""}]})",
        R"({"version":1,"ports":[{"container":5,"port":"80","host_port":1}]})"}) {
    EXPECT_FALSE(parse_state(text)) << text;
  }
}

TEST_F(StateFileTest, WithoutAFileThereIsNothing) {
  EXPECT_EQ(file.load(), State{});
  EXPECT_FALSE(std::filesystem::exists(file.path().parent_path())) << "made when it is needed";
}

TEST_F(StateFileTest, WhatWasSavedIsLoadedAndForNobodyElse) {
  ASSERT_TRUE(save(some_state()));
  EXPECT_EQ(file.load(), some_state());
  struct stat seen {};
  ASSERT_EQ(::stat(file.path().c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 0777, 0600U);
  ASSERT_EQ(::stat(file.path().parent_path().c_str(), &seen), 0);
  EXPECT_EQ(seen.st_mode & 0777, 0700U);
  EXPECT_FALSE(exists("state.json.new"));
}

TEST_F(StateFileTest, CutAtAnyByteItIsWholeOrSetAside) {
  const std::string whole = to_text(some_state());
  testing::internal::CaptureStderr();  // each failure logs a line
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write(whole.substr(0, size));
    const State loaded = file.load().value();
    if (loaded == some_state()) continue;  // only the newline at the end was missing
    EXPECT_EQ(loaded, State{}) << size;
    EXPECT_FALSE(exists("state.json")) << size;
    EXPECT_EQ(read_file(file.path().string() + ".damaged"), whole.substr(0, size));
    std::filesystem::remove(file.path().string() + ".damaged");
  }
  (void)testing::internal::GetCapturedStderr();
}

TEST_F(StateFileTest, ReportsADamagedFileOnce) {
  write("nonsense");
  testing::internal::CaptureStderr();
  EXPECT_EQ(file.load(), State{});
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("state.json.damaged"), std::string::npos) << said;
  testing::internal::CaptureStderr();
  EXPECT_EQ(file.load(), State{});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(save(some_state()));
  EXPECT_EQ(file.load(), some_state());
}

TEST_F(StateFileTest, OneThatIsTooLargeIsSetAside) {
  write(to_text(some_state()) + std::string(StateFile::kMostBytes, ' '));
  EXPECT_EQ(file.load(), State{});
  EXPECT_TRUE(exists("state.json.damaged"));
}

TEST_F(StateFileTest, SetsAsideWhatIsNoFile) {
  for (const bool folder_in_its_place : {false, true}) {
    std::filesystem::create_directories(file.path().parent_path());
    if (folder_in_its_place) {
      std::filesystem::remove(file.path().string() + ".damaged");
      std::filesystem::create_directory(file.path());
    } else {
      ASSERT_EQ(::mkfifo(file.path().c_str(), 0600), 0);
    }
    testing::internal::CaptureStderr();
    EXPECT_EQ(file.load(), State{});
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find(folder_in_its_place ? "folder" : "pipe"), std::string::npos) << said;
    EXPECT_TRUE(save(some_state()));
    EXPECT_EQ(file.load(), some_state());
    std::filesystem::remove(file.path());
  }
}

TEST_F(StateFileTest, ReplacesWhateverIsInTheWayOfTheNewFile) {
  const std::string beside = file.path().string() + ".new";
  std::filesystem::create_directories(file.path().parent_path());
  ASSERT_EQ(::mkfifo(beside.c_str(), 0600), 0);
  EXPECT_TRUE(save(some_state()));
  std::ofstream(folder.path() + "/precious") << "precious";
  std::filesystem::create_symlink(folder.path() + "/precious", beside);
  EXPECT_TRUE(save(some_state()));
  EXPECT_EQ(read_file(folder.path() + "/precious"), "precious");
  EXPECT_EQ(file.load(), some_state());
  std::filesystem::create_directory(beside);
  EXPECT_FALSE(save(some_state()));
  EXPECT_EQ(file.load(), some_state());
}

/// Even root cannot make a folder where a file exists.
TEST_F(StateFileTest, WhereNoFolderCanBeItSaysWhy) {
  std::ofstream(folder.path() + "/state") << "in the way";
  EXPECT_EQ(save(some_state()).error().code, ENOTDIR);
  testing::internal::CaptureStderr();
  const auto loaded = file.load();
  const std::string said = testing::internal::GetCapturedStderr();
  ASSERT_FALSE(loaded);
  EXPECT_NE(said.find("XDG_STATE_HOME"), std::string::npos) << said;
  EXPECT_EQ(said.find("overwritten"), std::string::npos) << said;
}

/// Sets the limit of file descriptors to 0 for its lifetime.
class WithoutDescriptors {
 public:
  WithoutDescriptors() {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit none{0, before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~WithoutDescriptors() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }
  WithoutDescriptors(const WithoutDescriptors&) = delete;
  WithoutDescriptors& operator=(const WithoutDescriptors&) = delete;

 private:
  rlimit before_{};
};

TEST_F(StateFileTest, KeepsAGoodFileThatCannotBeReadWithoutDescriptors) {
  ASSERT_TRUE(save(some_state()));
  testing::internal::CaptureStderr();
  const auto loaded = [&] {
    const WithoutDescriptors none;
    return file.load();
  }();
  const std::string said = testing::internal::GetCapturedStderr();
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().text.find("descriptors"), std::string::npos) << loaded.error().text;
  EXPECT_NE(said.find(loaded.error().text), std::string::npos) << said;
  EXPECT_FALSE(exists("state.json.damaged"));
  EXPECT_EQ(file.load(), some_state());
}

/// If root runs the test, it reads the file as another user.
TEST_F(StateFileTest, KeepsAGoodFileThatPermissionsForbid) {
  ASSERT_TRUE(save(some_state()));
  ASSERT_EQ(::chmod(file.path().c_str(), 0), 0);
  testing::internal::CaptureStderr();
  const int before = ::setfsuid(::geteuid() == 0 ? 65534 : ::geteuid());
  const auto loaded = file.load();
  (void)::setfsuid(static_cast<uid_t>(before));
  (void)testing::internal::GetCapturedStderr();
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().text.find("accessible"), std::string::npos) << loaded.error().text;
  EXPECT_FALSE(exists("state.json.damaged"));
  ASSERT_EQ(::chmod(file.path().c_str(), 0600), 0);
  EXPECT_EQ(file.load(), some_state());
}

TEST_F(StateFileTest, KeepsAFileOfANewerVersion) {
  for (const char* version : {"2", "4294967297", "18446744073709551615"}) {
    const std::string text = fmt::format(R"({{"version":{},"ports":{{}}}})", version);
    write(text);
    testing::internal::CaptureStderr();
    EXPECT_FALSE(file.load()) << version;
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find("newer"), std::string::npos) << said;
    EXPECT_EQ(read_file(file.path()), text);
    EXPECT_FALSE(exists("state.json.damaged"));
  }
}

TEST_F(StateFileTest, NeverReplacesABackup) {
  const auto backup = [&](int number) {
    return file.path().string() + ".damaged" + (number == 0 ? "" : fmt::format(".{}", number));
  };
  testing::internal::CaptureStderr();
  for (int number = 0; number < StateFile::kMostBackups; ++number) {
    write(fmt::format("nonsense {}", number));
    EXPECT_EQ(file.load(), State{});
  }
  (void)testing::internal::GetCapturedStderr();
  write("one too many");
  testing::internal::CaptureStderr();
  EXPECT_EQ(file.load(), State{});
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("overwritten"), std::string::npos) << said;
  for (int number = 0; number < StateFile::kMostBackups; ++number) {
    EXPECT_EQ(read_file(backup(number)), fmt::format("nonsense {}", number));
  }
  EXPECT_FALSE(std::filesystem::exists(backup(StateFile::kMostBackups)));
  EXPECT_TRUE(save(some_state()));
  EXPECT_EQ(file.load(), some_state());
}

Target tcp(std::size_t port) {
  return {Protocol::Tcp, static_cast<Port>(port)};
}

TEST(StickyPorts, ForgetsTheOneThatWasUsedLongestAgo) {
  StickyPorts sticky;
  EXPECT_TRUE(sticky.remember({"web"}, tcp(1), 1));
  for (std::size_t i = 2; i <= StickyPorts::kKept; ++i) {
    EXPECT_TRUE(sticky.remember({"web"}, tcp(i), 1));
  }
  EXPECT_FALSE(sticky.remember({"web"}, tcp(1), 1)) << "known already, but marked as used";
  EXPECT_TRUE(sticky.remember({"shop"}, tcp(1), 1));
  EXPECT_EQ(*sticky.recall({"web"}, tcp(1)), Port{1});
  EXPECT_EQ(sticky.recall({"web"}, tcp(2)), nullptr);
  EXPECT_EQ(sticky.all().size(), StickyPorts::kKept);
  StickyPorts again;
  again.restore(sticky.all());
  EXPECT_EQ(again.all(), sticky.all());
}

TEST(StickyPorts, TheFirstNameThatIsKnownCounts) {
  StickyPorts sticky;
  EXPECT_TRUE(sticky.remember({"{service=web}", "one"}, tcp(80), 20000));
  EXPECT_TRUE(sticky.remember({"{service=web}", "two"}, tcp(80), 20001)) << "made again";
  EXPECT_EQ(*sticky.recall({"{service=web}", "three"}, tcp(80)), Port{20001});
  EXPECT_EQ(*sticky.recall({"one"}, tcp(80)), Port{20000});
  EXPECT_EQ(sticky.recall({"three"}, tcp(80)), nullptr);
}

}  // namespace
}  // namespace portfwd
