// D-Bus introspection XML as a set of lines that can be compared: whitespace, comments and the
// order of attributes and members are ignored; the order of arguments is not. Parses only the XML
// that this needs.
#pragma once

#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace portfwd::testing_support {

/// @return lines such as "org.portfwd1.Manager/method Forward/arg 0 container s in"
inline std::set<std::string> members_of(const std::string& xml, const std::string& interface) {
  static const std::regex comment("<!--[^]*?-->");
  static const std::regex tag(
      "<(/?)(interface|method|signal|property|arg|annotation)([^>]*?)(/?)>");
  static const std::regex attribute("([a-z]+)=\"([^\"]*)\"");
  const std::string text = std::regex_replace(xml, comment, "");
  std::set<std::string> members;
  std::vector<std::string> path;
  int arguments = 0;
  for (std::sregex_iterator at(text.begin(), text.end(), tag), end; at != end; ++at) {
    if (at->str(1) == "/") {
      path.pop_back();
      continue;
    }
    const std::string attributes = at->str(3);
    std::map<std::string, std::string> values;
    for (std::sregex_iterator a(attributes.begin(), attributes.end(), attribute); a != end; ++a) {
      values[a->str(1)] = a->str(2);
    }
    const std::string kind = at->str(2);
    if (kind != "arg" && kind != "annotation") arguments = 0;
    std::string line = kind == "arg" ? kind + " " + std::to_string(arguments++) : kind;
    for (const char* key : {"name", "type", "access", "direction", "value"}) {
      if (values.contains(key)) line += " " + values[key];
    }
    path.push_back(line);
    std::string full;
    for (const std::string& step : path) full += "/" + step;
    if (path.front() == "interface " + interface) members.insert(full);
    if (at->str(4) == "/") path.pop_back();
  }
  return members;
}

}  // namespace portfwd::testing_support
