// portfwd, the daemon: reads its options and settings, builds its parts in order, and runs until it
// is asked to stop.
#include <csignal>

#include "api/controller.h"
#include "event/event_loop.h"
#include "forward/events.h"
#include "forward/host_ports.h"
#include "service/config_source.h"
#include "service/lifecycle.h"
#include "service/manager_notifier.h"
#include "service/options.h"
#include "service/parts.h"
#include "service/process_setup.h"

namespace portfwd {
namespace {
int run(const Options& options, const Settings& settings) {
  set_up_process();
  const SystemClock clock;
  EventLoop loop(clock);
  if (auto made = loop.status(); !made) return fail_with(made.error());
  auto diag = SockDiag::open();
  if (!diag) return fail_with(diag.error());
  RelayParts relay(loop, std::move(*diag));
  DiscoveryParts found(loop);
  AccessParts reach({loop, found.http, found.proc, engine_sockets(found.environment).docker,
                     relay.context(), found.names, relay.modules(), relay.processes()},
                    options, settings);
  found.registry.add_observer(reach.access_set);
  const HostPortHolder holders(found.proc, clock);
  const StateFile state_file(options.state_folder);
  InstanceFile instance_file(options.numbers_folder(), options.state_folder);
  FileWriter writer(loop, broker_path().string());
  ConfigSource config(loop, options);
  Notifier notifier(clock);
  Controller controller({loop, found.discovery, found.registry, found.attach, reach.access_set,
                         relay.services(), holders, reach.host_path_parts, notifier, state_file,
                         instance_file, writer, [&] { return config.read(); },
                         [&](Facts& facts) { found.add_facts(facts), relay.add_facts(facts); }},
                        settings);
  reach.access_set.set_observer(controller);
  relay.modules().set_observer([&] { controller.on_diag_modules_changed(); });
  Journal journal;
  ManagerNotifier manager(loop);
  notifier.add(journal);
  notifier.add(manager);
  Readiness readiness(loop, controller, manager);
  Shutdown shutdown(loop, controller, manager);
  auto bus =
      connect_bus(loop, controller, options.system_bus ? BusKind::System : BusKind::Session,
                  [&](const std::string& why) { shutdown.begin("bus lost: " + why, kFailed); });
  if (!bus) return fail_with(bus.error());
  Signals signals(loop, {SIGTERM, SIGINT, SIGHUP}, [&](int signal) {
    if (signal != SIGHUP) return shutdown.begin("requested by a signal");
    (void)controller.reload();  // mistakes have been logged
  });
  if (auto made = signals.status(); !made) return fail_with(made.error());
  config.watch([&] { (void)controller.reload(); });
  if (auto started = controller.start(); !started) return fail_with(started.error());
  notifier.add(**bus);
  reach.environment.use((*bus)->bus());
  if (auto published = (*bus)->publish(); !published) return fail_with(published.error());
  readiness.begin();
  const auto ran = loop.run();
  return ran ? shutdown.status() : fail_with(kFailed, ran.error().text());
}
}  // namespace
}  // namespace portfwd

int main(int argc, char** argv) {
  using namespace portfwd;
  const auto options = parse_options(argc, argv);
  if (!options) return fail_with(kUsage, options.error().text);
  log::set_level(options->log_level);
  if (print_information(*options)) return kDone;
  const auto settings = read_settings(*options);
  if (!settings) return fail_with(settings.error());
  return options->action == Options::Action::CheckConfig ? kDone : run(*options, *settings);
}
