// The process that relays the Unix sockets of a container: bytes, ends, aborts, and that nothing
// that it waits for makes the caller wait.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <fstream>

#include "relay/pump.h"
#include "support/hanging_fuse.h"
#include "support/relay_process_fixture.h"
#include "support/relay_rig.h"

namespace portfwd {
namespace {

using namespace testing_support;
using namespace std::chrono_literals;

/// "VmRSS" and the like of proc(5), status.
std::string status_of(pid_t pid, const std::string& field) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field + ":"))
      return line.substr(line.find_first_not_of(" \t", field.size() + 1));
  }
  return "";
}

struct RelayProcessKindsTest : RelayProcessTest, testing::WithParamInterface<Kinds> {
  Connection connect_kinds() { return connect(GetParam().first, GetParam().second); }
};

constexpr Kinds kUnixes{StreamKind::Unix, StreamKind::Unix};
constexpr Kinds kTcpAndUnix{StreamKind::Tcp4, StreamKind::Unix};
constexpr Kinds kUnixAndTcp{StreamKind::Unix, StreamKind::Tcp6};
INSTANTIATE_TEST_SUITE_P(Streams, RelayProcessKindsTest,
                         testing::Values(kUnixes, kTcpAndUnix, kUnixAndTcp), kinds_name);

TEST_P(RelayProcessKindsTest, RelaysBothWaysAndCounts) {
  const Connection connection = connect_kinds();
  write_all(connection.client, "question");
  EXPECT_EQ(receive(connection.target, 8).text, "question");
  write_all(connection.target, "the answer");
  EXPECT_EQ(receive(connection.client, 10).text, "the answer");
  EXPECT_TRUE(until([&] { return counters.bytes_in == 8 && counters.bytes_out == 10; }));
  EXPECT_TRUE(over.empty());
}

/// Sends `text` both ways at once. @return whether both arrived
bool exchange(RelayProcessTest& test, const RelayProcessTest::Connection& connection,
              const std::string& text) {
  struct Way {
    const UniqueFd& from;
    const UniqueFd& to;
    std::size_t sent = 0;
    Received got{};
  };
  std::array ways{Way{connection.client, connection.target},
                  Way{connection.target, connection.client}};
  for (Way& way : ways) way.got.text.reserve(text.size());
  return test.until([&] {
    bool whole = true;
    for (Way& way : ways) {
      for (ssize_t n = 1; n > 0 && way.sent < text.size();) {
        n = ::send(way.from.get(), text.data() + way.sent, text.size() - way.sent, MSG_NOSIGNAL);
        if (n > 0) way.sent += static_cast<std::size_t>(n);
      }
      read_available(way.to, way.got);
      whole = whole && way.got.text.size() == text.size();
    }
    return whole;
  }) && ways[0].got.text == text &&
         ways[1].got.text == text;
}

TEST_P(RelayProcessKindsTest, RelaysManyBytesUnchanged) {
  const Connection connection = connect_kinds();
  EXPECT_TRUE(exchange(*this, connection, random_text(100'000'000)));
}

TEST_P(RelayProcessKindsTest, ClosesEachDirectionSeparately) {
  Connection connection = connect_kinds();
  write_all(connection.client, "all I have");
  ::shutdown(connection.client.get(), SHUT_WR);
  const Received question = receive_to_end(connection.target);
  EXPECT_EQ(question.text, "all I have");
  EXPECT_EQ(question.ending, Ending::Fin);
  write_all(connection.target, "still answered");
  EXPECT_EQ(receive(connection.client, 14).text, "still answered");
  ::shutdown(connection.target.get(), SHUT_WR);
  EXPECT_EQ(receive_to_end(connection.client).ending, Ending::Fin);
  EXPECT_TRUE(is_over(connection));
  EXPECT_EQ(counters.bytes_in, 10u) << "all bytes are counted when a relay is over";
  EXPECT_EQ(counters.bytes_out, 14u);
  EXPECT_EQ(counters.failed, 0u);
}

/// A Unix socket that is closed with unread bytes resets its peer; a Unix socket with nothing
/// unread cannot be reset, and sees an end of stream.
TEST_P(RelayProcessKindsTest, RelaysAReset) {
  Connection connection = connect_kinds();
  EXPECT_TRUE(works(connection));
  write_all(connection.client, "never read");
  ASSERT_TRUE(becomes_readable(connection.target));
  reset(connection.target);
  const Ending seen = GetParam().first == StreamKind::Unix ? Ending::Fin : Ending::Reset;
  EXPECT_EQ(receive_to_end(connection.client).ending, seen);
  EXPECT_TRUE(is_over(connection));
}

TEST_P(RelayProcessKindsTest, RelaysAResetToAUnixSocketThatHasMoreToSend) {
  Connection connection = connect_kinds();
  UniqueFd& resets = GetParam().second == StreamKind::Unix ? connection.client : connection.target;
  const UniqueFd& last = &resets == &connection.client ? connection.target : connection.client;
  EXPECT_TRUE(works(connection));
  const std::string much(1 << 20, 'x');
  TimePoint accepted = loop.now();
  EXPECT_TRUE(until([&] {  // until both the relay and the reader are full
    if (::send(last.get(), much.data(), much.size(), MSG_NOSIGNAL) > 0) accepted = loop.now();
    return loop.now() - accepted > 200ms;
  }));
  reset(resets);
  EXPECT_EQ(receive_to_end(last).ending, Ending::Reset);
  EXPECT_TRUE(is_over(connection));
}

TEST_P(RelayProcessKindsTest, AbortResetsBothSides) {
  Connection connection = connect_kinds();
  EXPECT_TRUE(works(connection));
  const auto cut_off = [](StreamKind kind) {
    return kind == StreamKind::Unix ? Ending::Fin : Ending::Reset;
  };
  connection.relay->abort();
  EXPECT_EQ(receive_to_end(connection.client).ending, cut_off(GetParam().first));
  EXPECT_EQ(receive_to_end(connection.target).ending, cut_off(GetParam().second));
  EXPECT_TRUE(until([&] { return process->is_idle(); }));
  EXPECT_TRUE(over.empty());
}

TEST_F(RelayProcessTest, DestroyingARelayResetsItWhetherItWasSentOrNot) {
  Connection early = connect(StreamKind::Tcp4);
  early.relay.reset();  // no process has started yet
  EXPECT_EQ(receive_to_end(early.client).ending, Ending::Reset);
  Connection late = connect(StreamKind::Tcp4);
  EXPECT_TRUE(works(late));
  late.relay.reset();
  EXPECT_EQ(receive_to_end(late.client).ending, Ending::Reset);
  EXPECT_TRUE(over.empty());
}

TEST_F(RelayProcessTest, ResetsWhatIsDiscarded) {
  auto [far, near] = stream_pair(StreamKind::Tcp4);
  process->discard(std::move(near));
  EXPECT_EQ(receive_to_end(far).ending, Ending::Reset);
  EXPECT_TRUE(until([&] { return process->is_idle(); }));
}

TEST_F(RelayProcessTest, SocketsOfDifferentTypesFail) {
  const Connection connection = hand_over(unix_pair(SOCK_STREAM), unix_pair(SOCK_SEQPACKET));
  EXPECT_TRUE(is_over(connection));
  EXPECT_EQ(counters.failed, 1u);
  EXPECT_EQ(receive_to_end(connection.client).ending, Ending::Fin);
}

TEST_F(RelayProcessTest, RunsNoProcessBeforeAndAfterItIsNeeded) {
  EXPECT_EQ(process->pid(), 0);
  Connection connection = connect();
  EXPECT_TRUE(works(connection));
  const pid_t pid = process->pid();
  EXPECT_NE(pid, 0);
  EXPECT_EQ(processes.pids(), std::vector{pid});
  connection.client.reset();
  connection.target.reset();
  EXPECT_TRUE(is_over(connection));
  const TimePoint ended = loop.now();
  EXPECT_EQ(process->pid(), pid) << "kept for a while";
  EXPECT_TRUE(until([&] { return process->pid() == 0; }));
  EXPECT_GE(loop.now() - ended, RelayProcess::kIdle / 2);
  EXPECT_TRUE(has_exited(pid));
  EXPECT_TRUE(works(connect())) << "another one starts";
}

TEST_F(RelayProcessTest, KeepsItsProcessWhileAConnectionIsIdle) {
  const Connection connection = connect();
  EXPECT_TRUE(works(connection));
  const pid_t pid = process->pid();
  const TimePoint end = loop.now() + RelayProcess::kIdle + 300ms;
  EXPECT_TRUE(until([&] { return loop.now() >= end; }));
  EXPECT_EQ(process->pid(), pid);
  EXPECT_TRUE(works(connection));
}

TEST_F(RelayProcessTest, EndsConnectionsAsFailedWhenItsProcessDies) {
  const Connection one = connect();
  const Connection other = connect(StreamKind::Tcp4);
  EXPECT_TRUE(works(one) && works(other));
  const pid_t pid = process->pid();
  ::kill(pid, SIGKILL);
  EXPECT_TRUE(is_over(one) && is_over(other));
  EXPECT_EQ(counters.failed, 2u);
  EXPECT_NE(receive_to_end(other.client).ending, Ending::None);
  const Connection next = connect();
  EXPECT_TRUE(works(next));
  EXPECT_NE(process->pid(), pid);
}

TEST_F(RelayProcessTest, DestroyingRelaysFromACallbackIsAllowed) {
  std::vector<Connection> all;
  for (int i = 0; i < 5; ++i) all.push_back(connect());
  EXPECT_TRUE(works(all.back()));
  int calls = 0;
  group.on_over = [&](RelayedConnection&) {
    ++calls;
    all.clear();
    process.reset();
  };
  ::kill(process->pid(), SIGKILL);
  EXPECT_TRUE(until([&] { return calls > 0; }));
  EXPECT_TRUE(loop.turn(10ms));
  EXPECT_EQ(calls, 1);
}

TEST_F(RelayProcessTest, ContainersHaveProcessesOfTheirOwn) {
  const Connection mine = connect();
  const std::shared_ptr<RelayProcess> others = processes.process_of("another");
  EXPECT_NE(others, process);
  EXPECT_EQ(processes.process_of("box"), process);
  auto [client, c] = unix_pair(SOCK_STREAM);
  auto [target, t] = unix_pair(SOCK_STREAM);
  const auto relay = others->carry(group, std::move(c), std::move(t), {});
  EXPECT_TRUE(works(mine));
  EXPECT_TRUE(until([&] { return others->pid() != 0; }));
  EXPECT_NE(others->pid(), process->pid());
  EXPECT_EQ(processes.pids().size(), 2u);
}

TEST_F(RelayProcessTest, AProcessEndsWithTheLastOwnerOnceAllWasHandedOver) {
  auto [far, near] = stream_pair(StreamKind::Tcp4);
  process->discard(std::move(near));
  process.reset();
  EXPECT_EQ(receive_to_end(far).ending, Ending::Reset);
  EXPECT_TRUE(until([&] { return processes.pids().empty(); }));
}

TEST_F(RelayProcessTest, EndsByItselfAndResetsEverythingWhenTheDaemonDies) {
  auto [far_client, client] = stream_pair(StreamKind::Tcp4);
  auto [far_target, target] = stream_pair(StreamKind::Tcp4);
  auto launched = SpawnLauncher(loop, PORTFWD_RELAY_PATH).launch();
  ASSERT_TRUE(launched);
  const std::array fds{client.get(), target.get()};
  const relay_process::Request pair{.op = relay_process::Op::Pair, .relay = 1, .group = 1};
  const relay_process::Request released{.op = relay_process::Op::Released};
  const int socket = launched->socket.get();
  ASSERT_TRUE(send_with_fds(socket, std::as_bytes(std::span(&pair, 1)), fds));
  client.reset();
  target.reset();
  ASSERT_TRUE(send_with_fds(socket, std::as_bytes(std::span(&released, 1)), {}));
  write_all(far_client, "?");
  EXPECT_EQ(receive(far_target, 1).text, "?");
  launched->socket.reset();
  EXPECT_EQ(receive_to_end(far_client).ending, Ending::Reset);
  EXPECT_EQ(receive_to_end(far_target).ending, Ending::Reset);
  int status = -1;
  EXPECT_EQ(::waitpid(launched->pid, &status, 0), launched->pid);
  EXPECT_EQ(status, 0);
}

TEST_F(RelayProcessTest, HundredIdleConnectionsFitInAMebibyte) {
  std::vector<Connection> all;
  for (int i = 0; i < 100; ++i) all.push_back(connect());
  for (const Connection& connection : all) EXPECT_TRUE(works(connection));
  const int kib = std::stoi(status_of(process->pid(), "VmRSS"));
  RecordProperty("VmRSS", kib);
  EXPECT_LE(kib, 1024);
}

TEST_F(RelayProcessTest, HasNoPrivileges) {
  const Connection connection = connect();
  EXPECT_TRUE(works(connection));
  const pid_t pid = process->pid();
  EXPECT_EQ(status_of(pid, "Seccomp"), "2");
  EXPECT_EQ(status_of(pid, "NoNewPrivs"), "1");
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    EXPECT_EQ(status_of(pid, set), "0000000000000000") << set;
  }
}

/// A byte with a socket whose close(2) waits, in a socket that was handed over.
StreamPair with_bomb(LingeringSocket& bomb) {
  StreamPair pair = unix_pair(SOCK_STREAM);
  bomb.send_over(pair.first);
  return pair;
}

TEST_F(RelayProcessTest, TheCallerNeverWaitsForASocketThatIsDiscarded) {
  EXPECT_TRUE(works(connect()));  // the process runs
  LingeringSocket bomb(30);
  StreamPair pair = with_bomb(bomb);
  pair.first.reset();
  const pid_t pid = process->pid();
  process->discard(std::move(pair.second));
  EXPECT_TRUE(until([&] { return process->pid() != pid; }));
  EXPECT_LT(loop.longest_turn(), 1s);
  EXPECT_TRUE(works(connect()));
}

TEST_F(RelayProcessTest, KillsAProcessThatIsStuckAndHandsTheRestToAnother) {
  const Connection before = connect();
  EXPECT_TRUE(works(before));
  const pid_t pid = process->pid();
  LingeringSocket bomb(30);
  const Connection stuck = hand_over(with_bomb(bomb), unix_pair(SOCK_STREAM));
  std::vector<Connection> after;
  for (std::size_t i = 0; i < RelayProcess::kMostUnaccepted + 10; ++i) after.push_back(connect());
  EXPECT_TRUE(is_over(stuck));
  EXPECT_TRUE(is_over(before)) << "of the same process";
  EXPECT_TRUE(until([&] { return process->pid() != 0 && process->pid() != pid; }));
  EXPECT_TRUE(works(after.back())) << "it was in the queue";
  EXPECT_GE(counters.failed, 3u);
  EXPECT_LE(counters.failed, RelayProcess::kMostUnaccepted + 2);
  EXPECT_LT(loop.longest_turn(), 1s);
  EXPECT_TRUE(has_exited(pid));
  EXPECT_TRUE(processes.stuck().empty());
}

/// Messages that carry a file whose close(2) waits for a FUSE server, which SIGKILL does not end.
class UnclosableFiles {
 public:
  explicit UnclosableFiles(std::size_t count) {
    const std::string path = "/proc/" + std::to_string(fuse_.pid()) + "/root" + fuse_.mount();
    UniqueFd file(::open((path + "/f").c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_TRUE(file.valid()) << std::strerror(errno);
    page_ = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    EXPECT_NE(page_, MAP_FAILED) << std::strerror(errno);
    for (std::size_t i = 0; i < count; ++i) {
      sockets_.push_back(unix_pair(SOCK_STREAM));
      EXPECT_EQ(send_with(sockets_.back().first, "x", file), 1);
    }
    file.reset();
    if (page_ != MAP_FAILED) static_cast<volatile char*>(page_)[0] = 1;  // from now on it waits
  }
  UnclosableFiles(const UnclosableFiles&) = delete;
  UnclosableFiles& operator=(const UnclosableFiles&) = delete;
  ~UnclosableFiles() {
    release_all();
    ::munmap(page_, 4096);
  }
  /// A pair of sockets; the file is in the queue of the second one.
  StreamPair next() {
    StreamPair pair = std::move(sockets_.back());
    sockets_.pop_back();
    return pair;
  }
  /// Ends the server, and with it every close(2) that waits.
  void release_all() { fuse_.end(); }

 private:
  HangingFuse fuse_{HangingFuse::What::Mount};
  std::vector<StreamPair> sockets_;
  void* page_ = MAP_FAILED;
};

TEST_F(RelayProcessTest, WaitsWhileTooManyOfItsProcessesCannotBeKilled) {
  UnclosableFiles files(RelayProcess::kMostStuck);
  std::vector<Connection> all;
  for (std::size_t stuck = 1; stuck <= RelayProcess::kMostStuck; ++stuck) {
    all.push_back(hand_over(files.next(), unix_pair(SOCK_STREAM), {.pass_fds = true}));
    ASSERT_TRUE(is_over(all.back()));
    ASSERT_TRUE(until([&] { return processes.stuck().size() == stuck; }));
  }
  const Connection waits = connect();
  write_all(waits.client, "?");
  const TimePoint end = loop.now() + RelayProcess::kStuckAfter;
  EXPECT_TRUE(until([&] { return loop.now() > end; }));
  EXPECT_EQ(process->pid(), 0);
  EXPECT_EQ(over.size(), RelayProcess::kMostStuck) << "it waits";
  EXPECT_LT(loop.longest_turn(), 1s);
  files.release_all();
  EXPECT_EQ(receive(waits.target, 1).text, "?");
  EXPECT_TRUE(until([&] { return processes.stuck().empty(); }));
}

TEST_F(RelayProcessTest, RefusesDescriptorsToTheirSenderWhereTheKernelCan) {
  const Connection connection = connect();
  EXPECT_TRUE(works(connection));
  const UniqueFd passed = numbered_fd(1);
  if (kernel_has_pass_rights()) {
    EXPECT_EQ(send_with(connection.client, "x", passed), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_TRUE(works(connection)) << "the connection is as before";
  } else {
    EXPECT_EQ(send_with(connection.client, "x", passed), 1);
    EXPECT_TRUE(is_over(connection));
  }
}

struct RefusedDescriptorsTest : RelayProcessTest, testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Sender, RefusedDescriptorsTest, testing::Bool(),
                         [](const auto& sender) { return sender.param ? "Client" : "Target"; });

/// As on a kernel before Linux 6.16.
TEST_P(RefusedDescriptorsTest, ResetTheConnectionOnOlderKernelsAndAreCounted) {
  Connection connection =
      connect(StreamKind::Unix, StreamKind::Unix, {.without_pass_rights = true});
  EXPECT_TRUE(works(connection));
  const std::string much = random_text(200'000);  // such a direction is otherwise spliced
  EXPECT_TRUE(exchange(*this, connection, much));
  const UniqueFd& sender = GetParam() ? connection.client : connection.target;
  const UniqueFd& other = GetParam() ? connection.target : connection.client;
  ASSERT_EQ(::send(sender.get(), "before", 6, MSG_NOSIGNAL), 6);
  EXPECT_EQ(receive(other, 6).text, "before");
  ASSERT_EQ(send_with(sender, "never arrives", numbered_fd(1)), 13);
  const Received got = receive_to_end(other);
  EXPECT_EQ(got.text, "");
  EXPECT_NE(receive_to_end(sender).ending, Ending::None);
  EXPECT_TRUE(is_over(connection));
  EXPECT_EQ(group.fds_refused, 1u);
}

TEST_F(RelayProcessTest, RefusesDescriptorsThatWereSentBeforeItCouldSayNo) {
  StreamPair client = unix_pair(SOCK_STREAM);
  ASSERT_EQ(send_with(client.first, "x", numbered_fd(1)), 1);
  const Connection connection = hand_over(std::move(client), stream_pair(StreamKind::Tcp4));
  EXPECT_EQ(receive_to_end(connection.target).ending, Ending::Reset);
  EXPECT_TRUE(is_over(connection));
  EXPECT_EQ(group.fds_refused, 1u);
}

}  // namespace
}  // namespace portfwd
