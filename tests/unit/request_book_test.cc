// Which changes of the requests the daemon's next life has to know.
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
  /// What is persistent at each change.
  std::vector<std::size_t> seen;
  RequestBook book{[this] { seen.push_back(book.persistent().size()); }};
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
  EXPECT_THAT(book.persistent(), IsEmpty());
}

}  // namespace
}  // namespace portfwd
