// How a watched job is shown while it runs.
#pragma once

#include <chrono>
#include <ostream>
#include <set>
#include <string>

#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {

// On a terminal one line that is redrawn, with whatever else happens printed above it. Elsewhere
// lines only, of which a long job prints few: one a state, a stage and a layer, or, within
// these, every ten percent and every half minute. Not thread-safe.
class ProgressView {
 public:
  ProgressView(std::ostream& out, bool terminal, int columns);
  // Ends the redrawn line.
  ~ProgressView();

  void Show(const v1::JobEvent& event);
  // A line of its own, above the redrawn one.
  void Say(const std::string& text);
  // Erases the redrawn line.
  void Clear();

 private:
  void ShowProgress(const v1::JobEvent& event);

  std::ostream& out_;
  const bool terminal_;
  const size_t columns_;
  bool drawn_ = false;
  std::string bar_;                                       // what is redrawn, as far as known
  std::chrono::steady_clock::time_point last_draw_ = {};  // terminal
  // Elsewhere. Of the events, not of this machine: a replayed history prints the same lines.
  double last_line_seconds_ = 0;
  int attempt_ = 0;
  std::set<std::string> stages_;  // of this attempt
  int64_t layers_done_ = -1;
  double last_percent_ = 0;
};

// "calibrate [####------]  41%  layer 12/30  model.layers.11.mlp.down_proj  ETA 2m10s", cut to
// columns, what matters less first.
std::string ProgressBar(const v1::Progress& progress, size_t columns);

}  // namespace svdllm::cli
