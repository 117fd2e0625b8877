// Inputs of up to a megabyte, too large for a corpus and unlikely to be found by libFuzzer: extreme
// depth, number and length, in the forms that were once too expensive. Every target gets all of
// them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace portfwd_fuzz {

struct LargeInput {
  std::string name;
  std::string bytes;
};

inline std::string repeated(std::string_view text, std::size_t count) {
  std::string out;
  out.reserve(text.size() * count);
  for (std::size_t i = 0; i < count; ++i) out += text;
  return out;
}

/// `count` items, separated by commas, of `head`, a number and `tail`.
inline std::string numbered(std::string_view head, std::string_view tail, int count) {
  std::string out;
  for (int i = 1; i <= count; ++i) {
    out += i == 1 ? "" : ",";
    out += head;
    out += std::to_string(i);
    out += tail;
  }
  return out;
}

inline std::vector<LargeInput> large_inputs() {
  return {
      {"500000 lists deep", repeated("[", 500'000)},
      {"200000 lists deep, closed",
       "{\"forwardPorts\":[" + repeated("[", 200'000) + repeated("]", 200'000) + "]}"},
      {"100000 objects deep", repeated("{\"a\":", 100'000)},
      {"300000 empty objects", "[{}" + repeated(",{}", 300'000) + "]"},
      {"500000 numbers", "[1" + repeated(",1", 500'000) + "]"},
      {"one string", "[\"" + repeated("x", 1'000'000) + "\"]"},
      {"escapes", "[\"" + repeated("\\u003c", 160'000) + "\"]"},
      {"exposed ports", "[{\"Id\":\"a\",\"Ports\":[" +
                            numbered("{\"PrivatePort\":", ",\"Type\":\"tcp\"}", 30'000) + "]}]"},
      {"published ports",
       "[{\"Id\":\"a\",\"Ports\":[" +
           numbered("{\"PrivatePort\":7,\"Type\":\"tcp\",\"PublicPort\":", "}", 20'000) + "]}]"},
      {"labels", "[{\"Id\":\"a\",\"Labels\":{" + numbered("\"k", "\":\"v\"", 60'000) + "}}]"},
      {"expressions of large classes",
       "{\"portsAttributes\":{" + numbered("\"(\\\\pL{900}|x", ")\":{}", 700) + "}}"},
      {"expressions of large programs",
       "{\"portsAttributes\":{" + numbered("\"((\\\\pL{30}\\\\pN{30}){12}|", ")\":{}", 256) + "}}"},
      {"expressions one a snippet",
       "[" + numbered("{\"portsAttributes\":{\"(a?){60}(b?){60}", "\":{}}}", 5'000) + "]"},
      {"ports", "{\"forwardPorts\":[" + numbered("", "", 30'000) + "]}"},
      {"keys", "{\"portsAttributes\":{" + numbered("\"", "\":{}", 20'000) + "}}"},
      {"unclosed variables", "{\"forwardPorts\":[\"" + repeated("${", 100'000) + "\"]}"},
      {"comments", repeated("/*", 500'000)},
      {"quotes", repeated("\"", 1'000'000)},
      {"zeros", std::string(1 << 20, '\0')},
      {"lines", repeated("\n", 1 << 20)},
      {"colons", repeated(":", 1 << 20)},
      {"slashes", repeated("/a", 1 << 19)},
      {"bytes that are no text", repeated("\xff", 1 << 20)},
  };
}

}  // namespace portfwd_fuzz
