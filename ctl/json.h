// The JSON of portfwdctl(1), made of the values of the client library.
#pragma once

#include <nlohmann/json.hpp>

#include "client/values.h"

namespace portfwd::ctl {

using Json = nlohmann::ordered_json;  // keys stay in the order of the contract

[[nodiscard]] Json to_json(const client::Forward& forward);
[[nodiscard]] Json to_json(const client::Container& container);
[[nodiscard]] Json to_json(const client::Event& event);
[[nodiscard]] Json to_json(const client::Facts& facts);

template <class Value>
[[nodiscard]] Json to_json(const std::vector<Value>& values) {
  Json array = Json::array();
  for (const Value& value : values) array.push_back(to_json(value));
  return array;
}

}  // namespace portfwd::ctl
