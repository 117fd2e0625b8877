#include "ctl/json.h"

#include "ctl/when.h"

namespace portfwd::ctl {
namespace {

template <class Object>
Json object_json(const Object& object);

template <class T>
Json value_json(const T& value) {
  return value;
}

Json value_json(WallTime time) {
  return rfc3339(time);
}

template <class Row>
requires requires(const Row& row) {
  client::fields_of(row);
}
Json value_json(const std::vector<Row>& rows) {
  Json array = Json::array();
  for (const Row& row : rows) array.push_back(object_json(row));
  return array;
}

/// "container.id" is `id` in the object `container`.
Json& place(Json& object, std::string_view key) {
  const std::size_t dot = key.find('.');
  if (dot == key.npos) return object[std::string(key)];
  return place(object[std::string(key.substr(0, dot))], key.substr(dot + 1));
}

template <class Object>
Json object_json(const Object& object) {
  Json out = Json::object();
  client::for_each_field(object, [&](const auto& field, const auto& value) {
    place(out, field.key) = value_json(value);
  });
  return out;
}

}  // namespace

Json to_json(const client::Forward& forward) {
  return object_json(forward);
}

Json to_json(const client::Container& container) {
  return object_json(container);
}

Json to_json(const client::Event& event) {
  Json out = {{"seq", event.seq},
              {"time", rfc3339(event.time)},
              {"type", event.type},
              {"reason", event.reason}};
  if (const auto* forward = std::get_if<client::Forward>(&event.subject)) {
    out["forward"] = to_json(*forward);
  }
  if (const auto* container = std::get_if<client::Container>(&event.subject)) {
    Json& object = out["container"] = to_json(*container);
    for (const char* list : {"labels", "listeners", "listeners_total", "published"}) {
      object.erase(list);  // an event has none of them
    }
  }
  return out;
}

Json to_json(const client::Facts& facts) {
  Json out = Json::object();
  for (const auto& [key, fact] : facts) {
    out[key] = std::visit(
        [](const auto& value) {
          if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::monostate>) {
            return Json(nullptr);  // of a newer daemon
          } else {
            return Json(value);
          }
        },
        fact);
  }
  return out;
}

}  // namespace portfwd::ctl
