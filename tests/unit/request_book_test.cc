// RequestBook: which changes of requests must be saved for the next start of the daemon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "forward/requested_forwards.h"

namespace portfwd {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

struct RequestBookTest : testing::Test {
  void add(const std::string& id, const std::string& container_id, bool persist) {
    book.add({.spec = {.container = "web", .persist = persist},
              .forward_id = id,
              .container_id = container_id});
  }
  [[nodiscard]] std::vector<ForwardSpec> saved() const {
    State state;
    book.save(state);
    return state.forwards;
  }
  /// The number of persistent requests at each change.
  std::vector<std::size_t> seen;
  RequestBook book{[this] { seen.push_back(saved().size()); }};
};

TEST_F(RequestBookTest, NotifiesOfPersistentRequestsAlone) {
  add("f1", "n1", false);
  add("f2", "n1", true);
  EXPECT_THAT(seen, testing::ElementsAre(1U));
  book.remove("f1");
  EXPECT_THAT(seen, SizeIs(1U));
  book.remove("f2");
  EXPECT_THAT(seen, testing::ElementsAre(1U, 0U));
}

TEST_F(RequestBookTest, NotifiesWhenAPersistentRequestEndsWithItsContainer) {
  add("f1", "n1", true);
  add("f2", "n2", false);
  book.remove_of("n2");
  EXPECT_THAT(seen, SizeIs(1U));
  book.remove_of("n1");
  EXPECT_THAT(seen, testing::ElementsAre(1U, 0U));
  EXPECT_THAT(saved(), IsEmpty());
}

TEST_F(RequestBookTest, GivesTheNextLifeWhatWasToPersist) {
  const ForwardSpec kept{.container = "db",
                         .target = {Protocol::Tcp, 5432},
                         .direction = Direction::Reverse,
                         .host_port = 15432,
                         .bind = "::1",
                         .container_address = "10.0.0.1",
                         .label = "mine",
                         .persist = true};
  book.add({.spec = kept, .forward_id = "r1", .container_id = "n1"});
  add("f2", "n1", false);
  RequestBook next([] {});
  for (const ForwardSpec& spec : saved()) {
    ForwardRequest request = restored_request(spec);
    EXPECT_EQ(request.container_id, "");
    request.forward_id = "r1";
    next.add(std::move(request));
  }
  State state;
  next.save(state);
  EXPECT_EQ(state.forwards, saved());
  EXPECT_THAT(state.forwards, testing::ElementsAre(kept));
}

}  // namespace
}  // namespace portfwd
