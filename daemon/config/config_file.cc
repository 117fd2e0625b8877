#include "config/config_file.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "config/complaints.h"
#include "config/config_keys.h"
#include "config/contradictions.h"

namespace portfwd {

namespace {

using Read = std::expected<Settings, Mistakes>;

/// Files one after another into one Settings.
class Reader {
 public:
  void add(std::string_view text, std::string_view name);
  void add_failure(const std::filesystem::path& file, const Error& error) {
    Mistake& mistake = mistakes_.emplace_back();
    mistake.place.file = file.string();
    mistake.text = "cannot be read: " + error.text();
  }
  Read finish();

 private:
  void keep_mistakes() { std::ranges::move(complaints_.take(), std::back_inserter(mistakes_)); }

  Settings settings_;
  Complaints complaints_;
  Mistakes mistakes_;
};

void Reader::add(std::string_view text, std::string_view name) {
  const toml::parse_result parsed = toml::parse(text, name);
  if (parsed) {
    read_sections(complaints_, parsed.table(), settings_);
  } else {
    complaints_.add(place_of(parsed.error().source()), std::string(parsed.error().description()));
  }
  keep_mistakes();
}

Read Reader::finish() {
  find_contradictions(complaints_, settings_);
  keep_mistakes();
  if (!mistakes_.empty()) return std::unexpected(std::move(mistakes_));
  return std::move(settings_);
}

std::optional<std::string> read_file(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf() || in.peek() == EOF)) return std::nullopt;
  return std::move(text).str();
}

}  // namespace

Read parse_config(std::string_view text, std::string_view name) {
  Reader reader;
  reader.add(text, name);
  return reader.finish();
}

Read read_config(const std::vector<std::filesystem::path>& files) {
  Reader reader;
  for (const auto& file : files) {
    if (const auto text = read_file(file)) {
      reader.add(*text, file.string());
    } else {
      reader.add_failure(file, Error{errno, "open"});
    }
  }
  return reader.finish();
}

std::vector<std::filesystem::path> config_files(const std::filesystem::path& config,
                                                bool required) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::vector<fs::path> files;
  if (required || fs::exists(config, ignored)) files.push_back(config);
  std::vector<fs::path> drop_ins;
  for (const auto& entry : fs::directory_iterator(config.parent_path() / "config.d", ignored)) {
    if (entry.path().extension() == ".toml") drop_ins.push_back(entry.path());
  }
  std::ranges::sort(drop_ins);
  std::ranges::move(drop_ins, std::back_inserter(files));
  return files;
}

}  // namespace portfwd
