// libcurl's functions, looked up when an engine is asked for the first time. Owned by HttpClient.
//
// Not linked: libcurl brings 30 further libraries, which make every start 13 ms longer and the
// daemon 8 MiB bigger (1.2 MiB of it private). A machine without engines shall not pay for that.
#pragma once

#include <curl/curl.h>

#include "base/error.h"

namespace portfwd {

struct CurlLibrary {
  /// Loads it, for the rest of the process's life, and initialises it without TLS.
  /// @return ELIBACC when there is none or it lacks a function. Source: dlopen(3), libcurl(3).
  [[nodiscard]] static Result<CurlLibrary> load();

  decltype(&::curl_global_init) global_init = nullptr;
  decltype(&::curl_multi_init) multi_init = nullptr;
  decltype(&::curl_multi_cleanup) multi_cleanup = nullptr;
  decltype(&::curl_multi_setopt) multi_setopt = nullptr;
  decltype(&::curl_multi_add_handle) multi_add_handle = nullptr;
  decltype(&::curl_multi_remove_handle) multi_remove_handle = nullptr;
  decltype(&::curl_multi_socket_action) multi_socket_action = nullptr;
  decltype(&::curl_multi_info_read) multi_info_read = nullptr;
  decltype(&::curl_easy_init) easy_init = nullptr;
  decltype(&::curl_easy_cleanup) easy_cleanup = nullptr;
  decltype(&::curl_easy_setopt) easy_setopt = nullptr;
  decltype(&::curl_easy_getinfo) easy_getinfo = nullptr;
  decltype(&::curl_slist_append) slist_append = nullptr;
  decltype(&::curl_slist_free_all) slist_free_all = nullptr;
};

}  // namespace portfwd
