#include "client/cli/progress_view.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/utf8.h"
#include "client/cli/enum_names.h"
#include "client/cli/format.h"

namespace svdllm::cli {
namespace {

constexpr std::chrono::milliseconds kRedraw{100};
constexpr double kLayerLineSeconds = 0.5;
constexpr double kSilenceSeconds = 30;
constexpr double kFurtherPercent = 10;
constexpr int kBarCells = 24;

double SecondsOf(const google::protobuf::Timestamp& time) {
  return static_cast<double>(time.seconds()) + time.nanos() * 1e-9;
}

double Percent(const v1::Progress& progress) {
  return std::isfinite(progress.percent()) ? std::clamp(progress.percent(), 0.0, 100.0) : 0;
}

std::string Layers(const v1::Progress& progress) {
  // 0 in stages that do not go by layers, too.
  if (progress.layers_done() <= 0 || progress.layers_total() <= 0) return "";
  return absl::StrFormat("  layer %d/%d", progress.layers_done(), progress.layers_total());
}

std::string Eta(const v1::Progress& progress) {
  return progress.has_eta() ? absl::StrCat("  ETA ", Duration(progress.eta())) : "";
}

std::string PlainLine(const v1::Progress& progress) {
  return absl::StrFormat("%3.0f%%  %s%s%s%s", Percent(progress), progress.stage(), Layers(progress),
                         progress.module().empty() ? "" : absl::StrCat("  ", progress.module()),
                         Eta(progress));
}

std::string StateLine(const v1::JobEvent& event) {
  const v1::StateChange& change = event.state_change();
  std::string text = ShortName(change.state());
  if (change.state() == v1::JOB_STATE_RUNNING && event.attempt() > 1) {
    absl::StrAppend(&text, " (attempt ", event.attempt(), ")");
  }
  // Why a job has failed stands in the result, which follows.
  if (change.has_error() && change.state() != v1::JOB_STATE_FAILED) {
    absl::StrAppend(&text, ": ", change.error().message(), " (", change.error().reason(), ")");
  }
  return text;
}

}  // namespace

std::string ProgressBar(const v1::Progress& progress, size_t columns) {
  const int filled = static_cast<int>(Percent(progress) / 100 * kBarCells);
  const std::string bar =
      absl::StrCat("[", std::string(filled, '#'), std::string(kBarCells - filled, '-'), "] ");
  const std::string percent = absl::StrFormat("%3.0f%%", Percent(progress));
  const std::string module = progress.module().empty() ? "" : absl::StrCat("  ", progress.module());
  const std::string rest = absl::StrCat(percent, Layers(progress));
  std::string text =
      absl::StrCat(absl::StrFormat("%-9s ", progress.stage()), bar, rest, module, Eta(progress));
  if (CountCharacters(text) > columns) {
    text = absl::StrCat(absl::StrFormat("%-9s ", progress.stage()), bar, rest, Eta(progress));
  }
  if (CountCharacters(text) > columns)
    text = absl::StrCat(progress.stage(), " ", rest, Eta(progress));
  if (text.size() > columns) text.resize(columns);
  return text;
}

ProgressView::ProgressView(std::ostream& out, bool terminal, int columns)
    // The last column stays free: some terminals wrap once it is written.
    : out_(out), terminal_(terminal), columns_(std::max(20, columns - 1)) {}

ProgressView::~ProgressView() { Clear(); }

void ProgressView::Clear() {
  if (!drawn_) return;
  out_ << "\r\x1b[K" << std::flush;
  drawn_ = false;
}

void ProgressView::Say(const std::string& text) {
  const bool was_drawn = drawn_;
  Clear();
  out_ << Printable(text) << "\n";
  if (was_drawn) {
    out_ << bar_;
    drawn_ = true;
  }
  out_ << std::flush;
}

void ProgressView::Show(const v1::JobEvent& shown) {
  const v1::JobEvent event = PrintableMessage(shown);
  switch (event.event_case()) {
    case v1::JobEvent::kStateChange:
      if (event.attempt() != attempt_) {
        attempt_ = event.attempt();
        stages_.clear();
        layers_done_ = -1;
        last_percent_ = 0;
      }
      Clear();  // the bar belongs to the state that has ended
      Say(StateLine(event));
      break;
    case v1::JobEvent::kProgress:
      ShowProgress(event);
      break;
    case v1::JobEvent::kArtifact:
      Say(event.artifact().keep_ratio() > 0
              ? absl::StrCat("published ", event.artifact().uri(), " (keep ratio ",
                             event.artifact().keep_ratio(), ", ",
                             Bytes(event.artifact().weight_bytes()), ")")
              : absl::StrCat("published ", event.artifact().uri()));
      break;
    case v1::JobEvent::kLog:
      Say(absl::StrCat(event.log().level(), ": ", event.log().text()));
      break;
    case v1::JobEvent::EVENT_NOT_SET:  // a kind that a newer server knows
      break;
  }
}

void ProgressView::ShowProgress(const v1::JobEvent& event) {
  const v1::Progress& progress = event.progress();
  if (terminal_) {
    bar_ = Printable(ProgressBar(progress, columns_));
    const auto now = std::chrono::steady_clock::now();
    if (drawn_ && now - last_draw_ < kRedraw) return;
    last_draw_ = now;
    out_ << "\r" << bar_ << "\x1b[K" << std::flush;
    drawn_ = true;
    return;
  }
  const double now = SecondsOf(event.time());
  const bool new_stage = stages_.insert(progress.stage()).second;
  const bool new_layer = progress.layers_done() != layers_done_;
  const double silent = now - last_line_seconds_;
  const bool further = progress.percent() - last_percent_ >= kFurtherPercent;
  if (!new_stage && !further && !(new_layer && silent >= kLayerLineSeconds) &&
      silent < kSilenceSeconds) {
    return;
  }
  last_percent_ = progress.percent();
  layers_done_ = progress.layers_done();
  last_line_seconds_ = now;
  out_ << Printable(PlainLine(progress)) << "\n" << std::flush;
}

}  // namespace svdllm::cli
