// Texts recorded from running systems; tests/data names the systems.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "build_paths.h"

namespace portfwd::testing_support {

inline std::string captured(const std::string& name) {
  std::ifstream file(std::string(PORTFWD_TEST_DATA) + "/" + name);
  EXPECT_TRUE(file) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace portfwd::testing_support
