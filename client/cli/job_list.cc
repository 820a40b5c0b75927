// Jobs, a line each.
#include <algorithm>
#include <functional>
#include <map>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/utf8.h"
#include "client/cli/enum_names.h"
#include "client/cli/format.h"
#include "client/cli/text_output.h"
#include "client/client.h"

namespace svdllm::cli {
namespace {

constexpr size_t kLeastModel = 16;  // what a narrow terminal leaves of a model's path
constexpr size_t kMostLabels = 32;  // likewise of labels

struct Column {
  const char* title;
  int keep;  // a narrow terminal goes without those of the least number first
  std::function<std::string(const v1::Job&)> cell;
};

std::string Progress(const v1::Job& job) {
  if (job.queue_position() > 0) return absl::StrCat("#", job.queue_position());
  return job.has_progress() ? absl::StrFormat("%.0f%%", job.progress().percent()) : "-";
}

// Of a job that runs: up to when it was last heard of, by the server's clock.
std::string Took(const v1::Job& job) {
  if (!job.has_start_time()) return "-";
  const bool runs = job.state() == v1::JOB_STATE_RUNNING || job.state() == v1::JOB_STATE_CANCELLING;
  if (!runs && !job.has_end_time()) return "-";
  return Duration(Between(job.start_time(), runs ? job.update_time() : job.end_time()));
}

std::string Labels(const v1::Job& job) {
  const std::map<std::string, std::string> labels(job.labels().begin(), job.labels().end());
  return absl::StrJoin(labels, ",", absl::PairFormatter("="));
}

std::string Model(const v1::Job& job) {
  return std::string(absl::StripPrefix(ModelOf(job), "file://"));
}

const std::vector<Column>& Columns() {
  static const auto* const columns = new std::vector<Column>{
      {"name", 9, [](const v1::Job& job) { return job.name(); }},
      {"state", 9, [](const v1::Job& job) { return ShortName(job.state()); }},
      {"kind", 1, [](const v1::Job& job) { return ShortName(job.kind()); }},
      {"method", 5,
       [](const v1::Job& job) {
         return job.has_compress_model_request() ? ShortName(job.compress_model_request().method())
                                                 : "-";
       }},
      {"keep", 6,
       [](const v1::Job& job) {
         return job.has_compress_model_request()
                    ? absl::StrJoin(job.compress_model_request().keep_ratios(), ",")
                    : "-";
       }},
      {"progress", 7, Progress},
      {"took", 8, Took},
      {"created", 4, [](const v1::Job& job) { return Time(job.create_time()); }},
      {"called", 3, [](const v1::Job& job) { return job.display_name(); }},
      {"owner", 3, [](const v1::Job& job) { return job.owner(); }},
      {"labels", 2, Labels},
      {"model", 9, Model},
  };
  return *columns;
}

// At most so many characters, of which the first or the last are left out.
std::string WithoutBeginning(const std::string& text, size_t most) {
  size_t characters = CountCharacters(text);
  if (characters <= most) return text;
  size_t at = 0;
  for (; characters >= most && at < text.size(); --characters) at += CharLength(text[at]);
  return absl::StrCat("…", text.substr(at));
}

std::string WithoutEnd(const std::string& text, size_t most) {
  if (CountCharacters(text) <= most) return text;
  size_t at = 0;
  for (size_t i = 0; i + 1 < most; ++i) at += CharLength(text[at]);
  return absl::StrCat(text.substr(0, at), "…");
}

// A column with its title.
struct Shown {
  const Column* column;
  std::vector<std::string> cells;
  size_t width() const {
    size_t width = 0;
    for (const std::string& cell : cells) width = std::max(width, CountCharacters(cell));
    return width;
  }
};

// Makes the lines fit, as far as that can be: the model is the last column.
void Fit(size_t columns, std::vector<Shown>* shown) {
  for (Shown& column : *shown) {
    if (std::string(column.column->title) != "labels") continue;
    for (std::string& cell : column.cells) cell = WithoutEnd(cell, kMostLabels);
  }
  while (true) {
    size_t others = 0;  // with the blanks between the columns
    for (size_t i = 0; i + 1 < shown->size(); ++i) others += (*shown)[i].width() + 2;
    const size_t least = std::min(shown->back().width(), kLeastModel);
    const auto weakest = std::min_element(
        shown->begin(), shown->end(),
        [](const Shown& a, const Shown& b) { return a.column->keep < b.column->keep; });
    if (others + least > columns && weakest->column->keep < 9) {
      shown->erase(weakest);
      continue;
    }
    const size_t left = std::max(kLeastModel, columns - std::min(columns, others));
    for (std::string& cell : shown->back().cells) cell = WithoutBeginning(cell, left);
    return;
  }
}

}  // namespace

std::string JobList(const v1::ListJobsResponse& list, int columns) {
  if (list.jobs().empty()) return "no jobs\n";
  std::vector<Shown> shown;
  for (const Column& column : Columns()) {
    Shown next{&column, {column.title}};
    bool says_something = false;
    for (const v1::Job& job : list.jobs()) {
      const std::string cell = column.cell(job);
      says_something = says_something || !cell.empty();
      next.cells.push_back(cell.empty() ? "-" : cell);  // no line has fewer words than its title
    }
    if (says_something || column.keep == 9) shown.push_back(std::move(next));
  }
  if (columns > 0) Fit(static_cast<size_t>(columns), &shown);
  std::vector<std::vector<std::string>> rows(static_cast<size_t>(list.jobs_size()) + 1);
  for (const Shown& column : shown) {
    for (size_t row = 0; row < rows.size(); ++row) rows[row].push_back(column.cells[row]);
  }
  return Table(rows);
}

}  // namespace svdllm::cli
