// portfwd, the daemon: reads what it is told, builds its parts in order, runs until asked to end.
#include <fmt/core.h>
#include <unistd.h>

#include <csignal>

#include "base/version.h"
#include "discover/discovery.h"
#include "event/signals.h"
#include "forward/controller.h"
#include "forward/host_port_holder.h"
#include "forward/journal.h"
#include "service/exit_status.h"
#include "service/manager_notifier.h"
#include "service/options.h"
#include "service/process_setup.h"
#include "service/relay_parts.h"
#include "service/shutdown.h"

namespace portfwd {
namespace {

std::expected<Settings, Mistakes> read_settings(const Options& options) {
  return read_config(config_files(options.config, options.config_required));
}

int run(const Options& options, const Settings& settings) {
  set_up_process();
  const SystemClock clock;
  EventLoop loop(clock);
  auto diag = SockDiag::open();
  if (!diag) return fail_with(kFailed, diag.error().text());

  RelayParts relay(loop, std::move(*diag));
  BrokerSet brokers(loop, std::make_shared<SpawnLauncher>(loop, broker_path()),
                    NamespaceOwner::this_process());
  const ProcDir proc;
  const Identifier identifier(proc);
  const Boundary boundary(proc, identifier);
  Registry registry(loop, proc, identifier, boundary);
  Discovery discovery({loop, proc, identifier, boundary, registry},
                      {.is_ours = [&](pid_t pid) { return proc.parent(pid) == ::getpid(); }});
  FoundProcessNames names(discovery, proc);
  ReachSet reaches({loop, brokers, relay.context(), names}, settings);
  registry.add_observer(reaches);
  const HostPortHolder holders(proc);
  Controller controller(
      {loop, registry, reaches, relay.services(), holders, [&] { return read_settings(options); }},
      settings);
  reaches.set_observer(controller);
  Journal journal;
  ManagerNotifier notifier(loop, controller);
  controller.add_observer(journal);
  controller.add_observer(notifier);
  Shutdown shutdown(loop, controller, notifier);
  auto bus =
      connect_bus(loop, controller, options.system_bus ? BusKind::System : BusKind::Session,
                  [&](const std::string& why) { shutdown.begin("the bus has gone: " + why); });
  if (!bus) return fail_with(bus.error());

  Signals signals(loop, {SIGTERM, SIGINT, SIGHUP}, [&](int signal) {
    if (signal != SIGHUP) return shutdown.begin("asked to end");
    (void)controller.reload();  // it has said what is wrong
  });
  if (auto started = discovery.start(); !started) return fail_with(kFailed, started.error().text());
  controller.add_observer(**bus);
  if (auto published = (*bus)->publish(); !published) return fail_with(published.error());
  notifier.ready();
  const auto ran = loop.run();
  return ran ? kDone : fail_with(kFailed, ran.error().text());
}

}  // namespace
}  // namespace portfwd

int main(int argc, char** argv) {
  using namespace portfwd;
  const auto options = parse_options(argc, argv);
  if (!options) return fail_with(kUsage, options.error());
  log::set_level(options->log_level);
  using Action = Options::Action;
  if (options->action == Action::Help) return fmt::print("{}", usage()), kDone;
  if (options->action == Action::Version) return fmt::print("portfwd {}\n", kVersion), kDone;
  const auto settings = read_settings(*options);
  if (!settings) return fail_with(settings.error());
  return options->action == Action::CheckConfig ? kDone : run(*options, *settings);
}
