// Carriers of Unix sockets for tests that hand none over: this process closes them itself.
#pragma once

#include <memory>
#include <string>

#include "relay/connection.h"
#include "relay/relay.h"

namespace portfwd::testing_support {

class LocalCarriers final : public UnixCarriers {
 public:
  /// @param context borrowed
  explicit LocalCarriers(RelayContext& context)
      : carrier_(std::make_shared<LocalCarrier>(context)) {}
  std::shared_ptr<Carrier> of(const std::string&) override { return carrier_; }

 private:
  std::shared_ptr<Carrier> carrier_;
};

}  // namespace portfwd::testing_support
