// The header of the PROXY protocol, which tells a server behind a forward who its client is. Pure;
// the ForwardPort sends it before the first byte of the client's.
// Source: "The PROXY protocol, versions 1 & 2", sections 2.1 and 2.2.
#pragma once

#include <string>

#include "config/rule.h"
#include "net/endpoint.h"

namespace portfwd {

/// @param version V1 or V2 @param client, host both ends of the accepted connection, of one family,
/// which the header takes; what family the server is dialled in does not matter
/// @return at most 107 bytes
[[nodiscard]] std::string proxy_header(ProxyProtocol version, const Endpoint& client,
                                       const Endpoint& host);

}  // namespace portfwd
