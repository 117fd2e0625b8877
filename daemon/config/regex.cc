#include "config/regex.h"

#include <re2/re2.h>

namespace portfwd {

Answer<Regex> Regex::compile(std::string_view text, const RegexLimits& limits) {
  if (text.size() > limits.longest) {
    return reject("it has more than " + std::to_string(limits.longest) + " bytes");
  }
  re2::RE2::Options options;
  options.set_max_mem(static_cast<std::int64_t>(limits.memory));
  options.set_log_errors(false);  // they are reported with their place instead
  auto compiled = std::make_shared<re2::RE2>(std::string(text), options);
  if (!compiled->ok()) return reject(compiled->error());
  return Regex(std::move(compiled));
}

bool Regex::matches(std::string_view subject) const {
  return re2::RE2::PartialMatch({subject.data(), subject.size()}, *compiled_);
}

std::size_t Regex::cost() const {
  return static_cast<std::size_t>(compiled_->ProgramSize());
}

const std::string& Regex::text() const {
  return compiled_->pattern();
}

}  // namespace portfwd
