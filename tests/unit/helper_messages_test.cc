// Requests to engines about helper containers, and their answers.
#include <gmock/gmock.h>

#include "access/helper_access.h"

namespace portfwd::helper {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(HelperMessages, PathsAreEncoded) {
  EXPECT_EQ(inspect_path("../x"), "/v1.40/containers/%2E%2E%2Fx/json");
  EXPECT_EQ(start_path("ab12"), "/v1.40/containers/ab12/start");
  EXPECT_EQ(remove_path("ab12"), "/v1.40/containers/ab12?force=1&v=1");
  EXPECT_EQ(list_path("/run/a b").find(' '), std::string::npos);
}

TEST(HelperMessages, DoesNotThrowForAFolderThatIsNotUtf8) {
  EXPECT_NO_THROW((void)list_path("/run/\xff"));
  EXPECT_NO_THROW((void)creation({.container_id = "\xff",
                                  .image_id = {},
                                  .program = {},
                                  .socket = {},
                                  .folder = {},
                                  .life = {}}));
}

TEST(HelperMessages, ParsesAnswersOfAnyForm) {
  EXPECT_EQ(image_of(R"({"Image":"sha256:12"})"), "sha256:12");
  EXPECT_EQ(id_of(R"({"Id":"ab","Warnings":null})"), "ab");
  EXPECT_EQ(message_of("{\"message\":\"no\\u0007 such\"}"), "no? such");
  for (const char* wrong : {"", "[]", "{", "null", R"({"Image":1,"Id":[],"message":{}})"}) {
    EXPECT_EQ(image_of(wrong) + id_of(wrong) + message_of(wrong), "") << wrong;
    EXPECT_THAT(ids_of(wrong, "1"), IsEmpty()) << wrong;
  }
}

TEST(HelperMessages, AcceptsOnlyValidIds) {
  EXPECT_THAT(ids_of(R"([{"Id":"0123456789ab"},{"Id":"/etc"},{"Name":"x"},7])", "1"),
              ElementsAre("0123456789ab"));
}

TEST(HelperMessages, ListsOnlyHelpersOfOtherRuns) {
  EXPECT_THAT(ids_of(R"([{"Id":"0123456789ab","Labels":{"portfwd.life":"1"}},
                         {"Id":"0123456789ac","Labels":{"portfwd.life":"2"}},
                         {"Id":"0123456789ad","Labels":[]}])",
                     "1"),
              ElementsAre("0123456789ac", "0123456789ad"));
}

}  // namespace
}  // namespace portfwd::helper
