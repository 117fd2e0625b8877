#include "access/pace.h"

#include <algorithm>

namespace portfwd {

namespace {

using namespace std::chrono_literals;

constexpr double kRoundShare = 0.75;  // of the budget
constexpr double kSeatShare = 0.25;   // most that one seat may take of it in the round
constexpr double kFullShare = 0.125;  // for full looks that nothing calls for
constexpr Duration kBurst = 2s;       // the bucket holds the budget of this time
constexpr Duration kFirstFew = 16ms;
constexpr Duration kFirstLooks = 4s;  // after a sign of life, see pause_after()
constexpr Duration kFirstLooksOfReturn = 250ms;
constexpr Duration kDearCredit =
    20s;                       // after a rest the second dear look follows the first at once
constexpr double kDearer = 2;  // what a dear look costs beyond its share is paid so slowly
constexpr int kMemory = 8;     // looks over which a cost is averaged

Duration scaled(Duration d, double factor) {
  return Duration(static_cast<Duration::rep>(static_cast<double>(d.count()) * factor));
}

void average_in(Duration& mean, Duration sample) {
  mean = mean == Duration::zero() ? sample : mean + (sample - mean) / kMemory;
}

/// A program that was started needs a millisecond or some seconds until it listens, hence pauses
/// that grow: in the first second, when most servers begin to listen, they are short enough that a
/// listener waits for 4 ms on average.
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
  for (const Seat* seat : seats_) sum += seat != nullptr ? seat->cost_ : Duration::zero();
  return seats_.empty() ? sum : sum / static_cast<Duration::rep>(seats_.size());
}

Duration Pace::bucket_size() const {
  return scaled(kBurst, budget_);
}

// --- when a look is due -------------------------------------------------------------------------

bool Pace::quick(const Seat& seat) const {
  return !settings_.interval && loop_.now() < seat.hurried_ + kQuickFor;
}

Duration Pace::own_interval(const Seat& seat) const {
  if (settings_.interval) return *settings_.interval;
  const Duration fair = scaled(seat.cost_, 1 / (budget_ * kSeatShare));
  return std::max(interval_, std::min(fair, kMaxFullInterval));
}

TimePoint Pace::round_due(const Seat& seat) const {
  return seat.last_ == TimePoint::min() ? seat.last_ : seat.last_ + own_interval(seat);
}

/// The looks that follow are many, so they leave a part of the bucket to the first few after other
/// signs of life: three eighths in the first seconds, then, every quick_interval_ for 15 s, half.
TimePoint Pace::extra_due(const Seat& seat) const {
  const TimePoint from = seat.full_cost_ > dear() ? dear_from_ : TimePoint::min();
  if (seat.urgent_) return std::max(holds_more_than_at(Duration::zero()), from);
  if (!quick(seat) || seat.last_ == TimePoint::min()) return TimePoint::max();
  const Duration since = std::max(seat.last_ - seat.hurried_, Duration::zero());
  const bool first = since < seat.first_looks_;
  const TimePoint step =
      first ? std::max(seat.last_, seat.hurried_) + pause_after(since) : TimePoint::max();
  const TimePoint again = seat.last_ + quick_interval_;
  const Duration kept = since < kFirstFew ? bucket_size() / 4 : bucket_size() * 3 / 8;
  return std::max(from, std::min(std::max(step, holds_more_than_at(kept)),
                                 std::max(again, holds_more_than_at(bucket_size() / 2))));
}

void Pace::arm() {
  if (in_progress_) return;
  TimePoint next = TimePoint::max();
  for (const Seat* seat : seats_) next = std::min({next, round_due(*seat), extra_due(*seat)});
  if (next == TimePoint::max()) {
    timer_.disarm();
  } else {
    timer_.arm_at(std::max(next, loop_.now()));
  }
}

void Pace::arm_for(const Seat& seat) {
  if (in_progress_) return;
  const TimePoint due = std::max(std::min(round_due(seat), extra_due(seat)), loop_.now());
  if (!timer_.armed() || due < timer_.when()) timer_.arm_at(due);
}

// --- looking ------------------------------------------------------------------------------------

void Pace::round() {
  refill();
  const TimePoint began = loop_.now();
  const bool in_round =
      std::ranges::any_of(seats_, [&](const Seat* seat) { return round_due(*seat) <= began; });
  const Duration all_full = interval_ * static_cast<Duration::rep>(seats_.size());
  full_quota_ = 1 + static_cast<std::size_t>(all_full / full_interval_);
  extra_wall_ = dear_wall_ = Duration::zero();
  in_progress_ = true;
  const Duration cpu_before = meter_();
  const std::size_t count = seats_.size();  // who joins meanwhile comes next time
  for (std::size_t i = 0; i < count; ++i) {
    if (seats_[i] != nullptr && wanted(*seats_[i], in_round)) visit(i, in_round);
  }
  const Duration cpu = meter_() - cpu_before;
  in_progress_ = false;
  std::erase(seats_, nullptr);
  settle(cpu, loop_.now() - began, in_round);
  adapt();
  arm();
}

/// Who is at least half-way to its turn comes along, so that all turns fall into one wake-up.
bool Pace::wanted(const Seat& seat, bool in_round) const {
  const TimePoint now = loop_.now();
  if (in_round && (seat.last_ == TimePoint::min() || seat.last_ + own_interval(seat) / 2 <= now)) {
    return true;
  }
  const TimePoint due = extra_due(seat);
  return due != TimePoint::max() && due <= now + quick_interval_ / 4;
}

bool Pace::full_look_due(const Seat& seat) {
  if (seat.urgent_) return true;
  if (seat.last_full_ != TimePoint::min() && loop_.now() < seat.last_full_ + full_interval_) {
    return false;
  }
  if (full_quota_ == 0) return false;
  --full_quota_;
  return true;
}

void Pace::visit(std::size_t index, bool in_round) {
  Seat* const seat = seats_[index];
  const bool asked_for = !in_round || seat->urgent_;
  const auto depth = full_look_due(*seat) ? Looker::Depth::Full : Looker::Depth::Glance;
  const TimePoint began = loop_.now();
  seat->urgent_ = false;
  seat->last_ = began;
  if (depth == Looker::Depth::Full) seat->last_full_ = began;
  const auto done = seat->looker_.look(depth);
  const Duration wall = loop_.now() - began;
  if (asked_for) extra_wall_ += wall;
  if (asked_for) dear_wall_ += std::max(wall - dear(), Duration::zero());
  if (seats_[index] != seat) return;  // it left by what it saw
  seat->sample_ = wall;
  seat->sample_full_ = done == Looker::Depth::Full;
  if (seat->sample_full_) seat->last_full_ = began;
}

// --- the books ----------------------------------------------------------------------------------

/// CPU time is measured over the whole round, since reading that clock costs as much as a look; it
/// is handed down to the seats by the shares they had of the time that passed.
void Pace::settle(Duration cpu, Duration wall, bool in_round) {
  const double busy =
      wall > Duration::zero()
          ? std::min(1.0, static_cast<double>(cpu.count()) / static_cast<double>(wall.count()))
          : 0.0;
  for (Seat* seat : seats_) {
    if (seat->sample_ < Duration::zero()) continue;
    const Duration cost = scaled(seat->sample_, busy);
    average_in(seat->cost_, cost);
    if (seat->sample_full_) average_in(seat->full_cost_, cost);
    seat->sample_ = Duration(-1);
  }
  total_ += cpu + kWakeCost;
  const Duration above = scaled(dear_wall_, busy);
  tokens_ -= (in_round ? scaled(extra_wall_, busy) : cpu + kWakeCost) - above;
  if (above > Duration::zero()) {
    dear_from_ =
        std::max(dear_from_, loop_.now() - kDearCredit) + scaled(above, kDearer / extra_rate_);
  }
}

void Pace::adapt() {
  const Duration most = scaled(interval_, budget_ * kSeatShare);
  Duration round_cost = kWakeCost;
  Duration quick_cost = kWakeCost;
  Duration full_cost{};
  for (const Seat* seat : seats_) {
    round_cost += std::min(seat->cost_, most);
    if (quick(*seat)) quick_cost += seat->cost_;
    full_cost += seat->full_cost_;
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

/// When the bucket will hold more CPU time than `level`. @return the distant past if it does
TimePoint Pace::holds_more_than_at(Duration level) const {
  if (tokens_ > level) return TimePoint::min();
  return refilled_ + scaled(level - tokens_ + 2 * kWakeCost, 1 / extra_rate_);
}

// --- a seat -------------------------------------------------------------------------------------

Pace::Seat::Seat(Pace& pace, Looker& looker)
    : pace_(pace), looker_(looker), hurried_(pace.loop_.now()), first_looks_(kFirstLooks) {
  pace_.seats_.push_back(this);
  pace_.arm_for(*this);
}

Pace::Seat::~Seat() {
  if (pace_.in_progress_) {
    std::ranges::replace(pace_.seats_, this, nullptr);
  } else {
    std::erase(pace_.seats_, this);
    if (pace_.seats_.empty()) pace_.timer_.disarm();
  }
}

void Pace::Seat::expedite() {
  expedite_for(kFirstLooks);
}

/// One that waits for a program to start keeps its time.
void Pace::Seat::expect_return() {
  const Duration left = hurried_ + first_looks_ - pace_.loop_.now();
  if (left < kFirstLooksOfReturn) expedite_for(kFirstLooksOfReturn);
}

void Pace::Seat::expedite_for(Duration first_looks) {
  pace_.refill();
  hurried_ = pace_.loop_.now();
  first_looks_ = first_looks;
  pace_.arm_for(*this);
}

void Pace::Seat::slow_down() {
  hurried_ = std::min(hurried_, pace_.loop_.now() - first_looks_);
}

void Pace::Seat::forget_costs() {
  cost_ = full_cost_ = Duration::zero();
}

void Pace::Seat::look_soon() {
  pace_.refill();
  urgent_ = true;
  pace_.arm_for(*this);
}

bool Pace::Seat::affordable() {
  pace_.refill();
  return pace_.tokens_ > Duration::zero();
}

}  // namespace portfwd
