#include "access/pace.h"

#include <algorithm>

namespace portfwd {

namespace {

using namespace std::chrono_literals;

constexpr double kRoundShare = 0.75;  // of the budget
constexpr double kSlotShare = 0.25;   // largest part of it for one slot in the round
constexpr double kFullShare = 0.125;  // of it, for full polls without a cause
constexpr Duration kBurst = 2s;       // the bucket holds the budget of this duration
constexpr Duration kFirstFew = 16ms;
constexpr Duration kFirstPolls = 4s;  // after a sign of life, see pause_after()
constexpr Duration kFirstPollsOfReopen = 250ms;
constexpr Duration kExpensiveCredit = 20s;  // after a pause the second such poll follows at once
constexpr double kExpensiveFactor = 2;      // slows down the payment of the excess of such a poll
constexpr int kAveragedPolls = 8;           // polls over which a cost is averaged

Duration scaled(Duration d, double factor) {
  return Duration(static_cast<Duration::rep>(static_cast<double>(d.count()) * factor));
}

void average_in(Duration& mean, Duration sample) {
  mean = mean == Duration::zero() ? sample : mean + (sample - mean) / kAveragedPolls;
}

/// Pause before the next poll after a sign of life. A program that has been started listens after a
/// millisecond or after some seconds, hence the pauses grow. In the first second, when most servers
/// begin to listen, they are so short that a listener waits for 4 ms on average.
Duration pause_after(Duration since_sign_of_life) {
  if (since_sign_of_life < 8ms) return std::max(Pace::kFirstStep, since_sign_of_life);
  if (since_sign_of_life < 1s) return 8ms;
  return since_sign_of_life < 2s ? 12ms : 20ms;
}

}  // namespace

Pace::Pace(EventLoop& loop, const Settings::Detect& settings, CpuMeter meter)
    : loop_(loop),
      meter_(std::move(meter)),
      refilled_(loop.now()),
      timer_(loop, [this] { round(); }) {
  configure(settings);
  tokens_ = bucket_size();
}

void Pace::configure(const Settings::Detect& settings) {
  settings_ = settings;
  budget_ = std::max(settings.cpu_budget, 0.001) / 100;
  interval_ = settings.interval.value_or(settings.min_interval);
  adapt();
  arm();
}

Duration Pace::mean_cost() const {
  Duration sum{};
  for (const PollSlot* slot : slots_) sum += slot != nullptr ? slot->cost_ : Duration::zero();
  return slots_.empty() ? sum : sum / static_cast<Duration::rep>(slots_.size());
}

Duration Pace::bucket_size() const {
  return scaled(kBurst, budget_);
}

// --- when a poll is due --------------------------------------------------------------------------

bool Pace::quick(const PollSlot& slot) const {
  return !settings_.interval && loop_.now() < slot.expedited_at_ + kQuickFor;
}

Duration Pace::own_interval(const PollSlot& slot) const {
  if (settings_.interval) return *settings_.interval;
  const Duration fair = scaled(slot.cost_, 1 / (budget_ * kSlotShare));
  return std::max(interval_, std::min(fair, kMaxFullInterval));
}

TimePoint Pace::round_due(const PollSlot& slot) const {
  return slot.last_ == TimePoint::min() ? slot.last_ : slot.last_ + own_interval(slot);
}

/// When the slot is due outside the round. There are many later polls after a sign of life, so they
/// leave a part of the bucket to the first few of other slots: three eighths in the first seconds,
/// and half for those each quick_interval_ until kQuickFor is over.
TimePoint Pace::extra_due(const PollSlot& slot) const {
  const TimePoint from = slot.full_cost_ > expensive_above() ? expensive_from_ : TimePoint::min();
  if (slot.urgent_) return std::max(refilled_above_at(Duration::zero()), from);
  if (!quick(slot) || slot.last_ == TimePoint::min()) return TimePoint::max();
  const Duration since = std::max(slot.last_ - slot.expedited_at_, Duration::zero());
  const bool first = since < slot.first_polls_;
  const TimePoint step =
      first ? std::max(slot.last_, slot.expedited_at_) + pause_after(since) : TimePoint::max();
  const TimePoint again = slot.last_ + quick_interval_;
  const Duration kept = since < kFirstFew ? bucket_size() / 4 : bucket_size() * 3 / 8;
  return std::max(from, std::min(std::max(step, refilled_above_at(kept)),
                                 std::max(again, refilled_above_at(bucket_size() / 2))));
}

void Pace::arm() {
  if (in_progress_) return;
  TimePoint next = TimePoint::max();
  for (const PollSlot* slot : slots_) next = std::min({next, round_due(*slot), extra_due(*slot)});
  if (next == TimePoint::max()) {
    timer_.disarm();
  } else {
    timer_.arm_at(std::max(next, loop_.now()));
  }
}

void Pace::arm_for(const PollSlot& slot) {
  if (in_progress_) return;
  const TimePoint due = std::max(std::min(round_due(slot), extra_due(slot)), loop_.now());
  if (!timer_.armed() || due < timer_.when()) timer_.arm_at(due);
}

// --- polling -------------------------------------------------------------------------------------

void Pace::round() {
  refill();
  const TimePoint began = loop_.now();
  const bool in_round =
      std::ranges::any_of(slots_, [&](const PollSlot* slot) { return round_due(*slot) <= began; });
  const Duration all_full = interval_ * static_cast<Duration::rep>(slots_.size());
  full_quota_ = 1 + static_cast<std::size_t>(all_full / full_interval_);
  extra_wall_ = expensive_wall_ = Duration::zero();
  in_progress_ = true;
  const Duration cpu_before = meter_();
  const std::size_t count = slots_.size();  // slots added meanwhile are polled next time
  for (std::size_t i = 0; i < count; ++i) {
    if (slots_[i] != nullptr && wanted(*slots_[i], in_round)) poll_slot(i, in_round);
  }
  const Duration cpu = meter_() - cpu_before;
  in_progress_ = false;
  std::erase(slots_, nullptr);
  account(cpu, loop_.now() - began, in_round);
  adapt();
  arm();
}

/// Whether the slot is polled in this wake-up. Slots that are at least half-way to their next poll
/// are included, so that their polls share one wake-up.
bool Pace::wanted(const PollSlot& slot, bool in_round) const {
  const TimePoint now = loop_.now();
  if (in_round && (slot.last_ == TimePoint::min() || slot.last_ + own_interval(slot) / 2 <= now)) {
    return true;
  }
  const TimePoint due = extra_due(slot);
  return due != TimePoint::max() && due <= now + quick_interval_ / 4;
}

bool Pace::full_poll_due(const PollSlot& slot) {
  if (slot.urgent_) return true;
  if (slot.last_full_ != TimePoint::min() && loop_.now() < slot.last_full_ + full_interval_) {
    return false;
  }
  if (full_quota_ == 0) return false;
  --full_quota_;
  return true;
}

void Pace::poll_slot(std::size_t index, bool in_round) {
  PollSlot* const slot = slots_[index];
  const bool paid_by_bucket = !in_round || slot->urgent_;
  const auto depth = full_poll_due(*slot) ? Pollable::Depth::Full : Pollable::Depth::Quick;
  const TimePoint began = loop_.now();
  slot->urgent_ = false;
  slot->last_ = began;
  if (depth == Pollable::Depth::Full) slot->last_full_ = began;
  const auto done = slot->pollable_.poll(depth);
  const Duration wall = loop_.now() - began;
  if (paid_by_bucket) extra_wall_ += wall;
  if (paid_by_bucket) expensive_wall_ += std::max(wall - expensive_above(), Duration::zero());
  if (slots_[index] != slot) return;  // the poll has destroyed its slot
  slot->sample_ = wall;
  slot->sample_full_ = done == Pollable::Depth::Full;
  if (slot->sample_full_) slot->last_full_ = began;
}

// --- accounting ----------------------------------------------------------------------------------

/// Distributes the CPU time over the slots and takes it from the bucket. It is measured over the
/// whole wake-up, since reading that clock costs as much as a poll, and divided in proportion to
/// the wall time of each poll.
void Pace::account(Duration cpu, Duration wall, bool in_round) {
  const double busy =
      wall > Duration::zero()
          ? std::min(1.0, static_cast<double>(cpu.count()) / static_cast<double>(wall.count()))
          : 0.0;
  for (PollSlot* slot : slots_) {
    if (slot->sample_ < Duration::zero()) continue;
    const Duration cost = scaled(slot->sample_, busy);
    average_in(slot->cost_, cost);
    if (slot->sample_full_) average_in(slot->full_cost_, cost);
    slot->sample_ = Duration(-1);
  }
  total_ += cpu + kWakeCost;
  const Duration above = scaled(expensive_wall_, busy);
  tokens_ -= (in_round ? scaled(extra_wall_, busy) : cpu + kWakeCost) - above;
  if (above > Duration::zero()) {
    expensive_from_ = std::max(expensive_from_, loop_.now() - kExpensiveCredit) +
                      scaled(above, kExpensiveFactor / extra_rate_);
  }
}

void Pace::adapt() {
  const Duration most = scaled(interval_, budget_ * kSlotShare);
  Duration round_cost = kWakeCost;
  Duration quick_cost = kWakeCost;
  Duration full_cost{};
  for (const PollSlot* slot : slots_) {
    round_cost += std::min(slot->cost_, most);
    if (quick(*slot)) quick_cost += slot->cost_;
    full_cost += slot->full_cost_;
  }
  interval_ = settings_.interval.value_or(
      std::clamp(scaled(round_cost, 1 / (budget_ * kRoundShare)), settings_.min_interval,
                 std::max(settings_.min_interval, settings_.max_interval)));
  const double round_rate =
      static_cast<double>(round_cost.count()) / static_cast<double>(interval_.count());
  extra_rate_ = std::max(budget_ - round_rate, budget_ * (1 - kRoundShare));
  quick_interval_ = std::max(settings_.min_interval,
                             std::min(scaled(quick_cost, 1 / extra_rate_), kQuickInterval));
  full_interval_ =
      std::clamp(scaled(full_cost, 1 / (budget_ * kFullShare)), kMinFullInterval, kMaxFullInterval);
}

void Pace::refill() {
  const TimePoint now = loop_.now();
  tokens_ = std::min(tokens_ + scaled(now - refilled_, extra_rate_), bucket_size());
  refilled_ = now;
}

void Pace::spend(Duration cpu) {
  refill();
  tokens_ -= cpu;
  total_ += cpu;
}

/// When the bucket will hold more CPU time than `level`; min() if it does now.
TimePoint Pace::refilled_above_at(Duration level) const {
  if (tokens_ > level) return TimePoint::min();
  return refilled_ + scaled(level - tokens_ + 2 * kWakeCost, 1 / extra_rate_);
}

// --- PollSlot ------------------------------------------------------------------------------------

PollSlot::PollSlot(Pace& pace, Pollable& pollable)
    : pace_(pace), pollable_(pollable), expedited_at_(pace.loop_.now()), first_polls_(kFirstPolls) {
  pace_.slots_.push_back(this);
  pace_.arm_for(*this);
}

PollSlot::~PollSlot() {
  if (pace_.in_progress_) {
    std::ranges::replace(pace_.slots_, this, nullptr);
  } else {
    std::erase(pace_.slots_, this);
    if (pace_.slots_.empty()) pace_.timer_.disarm();
  }
}

void PollSlot::expedite() {
  expedite_for(kFirstPolls);
}

/// A slot that is still in the first polls of expedite() keeps their longer duration.
void PollSlot::expect_reopen() {
  const Duration left = expedited_at_ + first_polls_ - pace_.loop_.now();
  if (left < kFirstPollsOfReopen) expedite_for(kFirstPollsOfReopen);
}

void PollSlot::expedite_for(Duration first_polls) {
  pace_.refill();
  expedited_at_ = pace_.loop_.now();
  first_polls_ = first_polls;
  pace_.arm_for(*this);
}

void PollSlot::slow_down() {
  expedited_at_ = std::min(expedited_at_, pace_.loop_.now() - first_polls_);
}

void PollSlot::reset_costs() {
  cost_ = full_cost_ = Duration::zero();
}

void PollSlot::request_full_poll() {
  pace_.refill();
  urgent_ = true;
  pace_.arm_for(*this);
}

bool PollSlot::can_spend() {
  pace_.refill();
  return pace_.tokens_ > Duration::zero();
}

}  // namespace portfwd
