// How progress is shown.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "client/cli/progress_view.h"
#include "tests/support/fake_service.h"

namespace svdllm::cli {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

v1::Progress Sample() {
  v1::Progress progress;
  progress.set_stage("calibrate");
  progress.set_module("model.layers.11.mlp.down_proj");
  progress.set_layers_done(12);
  progress.set_layers_total(30);
  progress.set_percent(50);
  progress.mutable_eta()->set_seconds(130);
  return progress;
}

std::string Show(const std::vector<v1::JobEvent>& events, bool terminal, int columns = 100) {
  std::ostringstream out;
  {
    ProgressView view(out, terminal, columns);
    for (const v1::JobEvent& event : events) view.Show(event);
  }
  return out.str();
}

v1::JobEvent ProgressEvent(const std::string& stage, int64_t layers_done, int64_t time_ms) {
  v1::JobEvent event;
  event.mutable_time()->set_seconds(1'700'000'000 + time_ms / 1000);
  event.mutable_time()->set_nanos(static_cast<int32_t>(time_ms % 1000 * 1'000'000));
  event.mutable_progress()->set_stage(stage);
  event.mutable_progress()->set_layers_done(layers_done);
  return event;
}

TEST(ProgressBarTest, ShowsStageShareLayerModuleAndEta) {
  EXPECT_EQ(
      ProgressBar(Sample(), 200),
      "calibrate [############------------]  50%  layer 12/30  model.layers.11.mlp.down_proj  "
      "ETA 2m10s");
}

TEST(ProgressBarTest, LeavesOutWhatDoesNotFit) {
  EXPECT_EQ(ProgressBar(Sample(), 79),
            "calibrate [############------------]  50%  layer 12/30  ETA 2m10s");
  EXPECT_EQ(ProgressBar(Sample(), 45), "calibrate  50%  layer 12/30  ETA 2m10s");
  EXPECT_EQ(ProgressBar(Sample(), 20).size(), 20u);
}

TEST(ProgressBarTest, BearsAnyNumbers) {
  for (const double percent : {-5.0, 0.0, 100.0, 250.0, std::numeric_limits<double>::quiet_NaN()}) {
    v1::Progress progress;
    progress.set_percent(percent);
    EXPECT_LE(ProgressBar(progress, 60).size(), 60u);
  }
}

TEST(ProgressViewTest, PlainOutputHasALineAStateAndALayer) {
  EXPECT_EQ(Show(SampleEvents(6), false),
            "QUEUED\nRUNNING\n"
            " 33%  calibrate  layer 1/3  model.layers.0.mlp.down_proj  ETA 3.0s\n"
            " 67%  calibrate  layer 2/3  model.layers.1.mlp.down_proj  ETA 2.0s\n"
            "100%  calibrate  layer 3/3  model.layers.2.mlp.down_proj  ETA 1.0s\n"
            "SUCCEEDED\n");
}

TEST(ProgressViewTest, PlainOutputNeverFloods) {
  std::vector<v1::JobEvent> events;
  // A hundred seconds of events every 10 ms: within a layer, then through quick layers.
  for (int i = 0; i < 5000; ++i) events.push_back(ProgressEvent("calibrate", 1, i * 10));
  for (int i = 0; i < 5000; ++i) events.push_back(ProgressEvent("evaluate", i, 50'000 + i * 10));
  const std::string text = Show(events, false);
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 105);
  EXPECT_GE(std::count(text.begin(), text.end(), '\n'), 50);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(ProgressViewTest, PlainOutputGoesOnInALongStep) {
  const std::string text =
      Show({ProgressEvent("evaluate", 0, 0), ProgressEvent("evaluate", 0, 20'000),
            ProgressEvent("evaluate", 0, 31'000)},
           false);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(ProgressViewTest, PlainOutputShowsTensOfPercentWithinAStage) {
  std::vector<v1::JobEvent> events;
  for (int percent = 0; percent <= 100; ++percent) {
    events.push_back(ProgressEvent("evaluate", 0, percent * 10));
    events.back().mutable_progress()->set_percent(percent);
  }
  const std::string text = Show(events, false);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 11);
  EXPECT_THAT(text, HasSubstr(" 50%  evaluate\n"));
}

TEST(ProgressViewTest, TerminalRedrawsOneLineAndCleansUp) {
  const std::string text = Show(SampleEvents(40), true);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);  // the states
  EXPECT_THAT(text, HasSubstr("\rcalibrate ["));
  EXPECT_THAT(text, EndsWith("\r\x1b[KSUCCEEDED\n"));
}

TEST(ProgressViewTest, MessagesStandAboveTheBar) {
  std::ostringstream out;
  ProgressView view(out, true, 100);
  view.Show(ProgressEvent("load", 0, 0));
  const std::string bar = out.str().substr(1, out.str().find('\x1b') - 1);
  out.str("");
  v1::JobEvent log;
  log.mutable_log()->set_level("warning");
  log.mutable_log()->set_text("dead channel\x1b[2J");
  view.Show(log);
  EXPECT_EQ(out.str(), "\r\x1b[Kwarning: dead channel\\x1b[2J\n" + bar);
}

TEST(ProgressViewTest, TellsOfAttemptsErrorsAndArtifacts) {
  std::vector<v1::JobEvent> events(3);
  events[0].set_attempt(1);
  events[0].mutable_state_change()->set_state(v1::JOB_STATE_QUEUED);
  events[0].mutable_state_change()->mutable_error()->set_reason("WORKER_DIED");
  events[0].mutable_state_change()->mutable_error()->set_message("signal 9");
  events[1].set_attempt(2);
  events[1].mutable_state_change()->set_state(v1::JOB_STATE_RUNNING);
  events[2].mutable_artifact()->set_keep_ratio(0.8);
  events[2].mutable_artifact()->set_uri("file:///a/keep-0.80");
  events[2].mutable_artifact()->set_weight_bytes(215'100'000);
  EXPECT_EQ(Show(events, false),
            "QUEUED: signal 9 (WORKER_DIED)\nRUNNING (attempt 2)\n"
            "published file:///a/keep-0.80 (keep ratio 0.8, 215.1 MB)\n");
}

}  // namespace
}  // namespace svdllm::cli
