// Share of the direct connection's rate that a relay keeps: nine loads through portfwd and the
// installed peers, beside the same load inside the container; and the cost of an idle connection
// for each. Usage: relay_bench [--quick] [RELAY...], such as portfwd or pasta. One JSON object a
// line; tests/bench/run makes a table.
#include <ranges>

#include "bench/comparison.h"
#include "bench/container.h"
#include "bench/daemon.h"
#include "bench/relays.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;
constexpr std::uint16_t kPort = 26'100;
constexpr std::size_t kIdle = 1000;

/// New processes of portfwd and all peers, beside direct connections. They end with this object.
class Field {
 public:
  Field(const Target& target, const Options& options)
      : daemon_(bus_), peers_(start_peers(with_folder(target))) {
    ways_ = {{"direct", {.port = kPort}, target.container},
             {"portfwd", {.port = kPort}, 0, [this] { return daemon_.processes(); }}};
    for (const RelayProcess& peer : peers_) {
      ways_.push_back({peer.name(), peer.place(), 0, [&peer] { return peer.processes(); }});
    }
    std::erase_if(ways_, [&](const Way& w) { return w.name != "direct" && !options.runs(w.name); });
  }
  Field(const Field&) = delete;
  Field& operator=(const Field&) = delete;
  ~Field() = default;
  [[nodiscard]] const std::vector<Way>& ways() const { return ways_; }

 private:
  [[nodiscard]] Target with_folder(Target target) const {
    target.folder = bus_.folder();
    return target;
  }

  testing_support::PrivateBus bus_;
  Daemon daemon_;
  std::list<RelayProcess> peers_;
  std::vector<Way> ways_;
};

int run(const Options& options) {
  allow_all_descriptors();
  enter_new_namespaces();
  const LoadContainer container(kPort);
  const Target target{container.pid(), join_by_veth(container.pid()), kPort, ""};
  {
    // In a Field of its own, since pipes that a relay keeps count for all programs of the user.
    const Field field(target, options);
    for (const Way& way : field.ways() | std::views::drop(1)) tell_idle_connections(way, kIdle);
  }
  const Field field(target, options);
  Comparison comparison(field.ways(), {kLoads.begin(), kLoads.end()}, container.pid());
  comparison.run(options.quick ? 1 : 5, options.quick ? 200ms : 700ms);
  comparison.tell();
  return 0;
}

}  // namespace
}  // namespace portfwd::bench

int main(int argc, char** argv) {
  return portfwd::bench::run(portfwd::bench::parse_options(argc, argv));
}
