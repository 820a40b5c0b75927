// Lists of jobs, and how they fit a terminal.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "absl/strings/str_split.h"
#include "base/utf8.h"
#include "client/cli/text_output.h"

namespace svdllm::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

v1::ListJobsResponse List() {
  v1::ListJobsResponse list;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(R"(
      jobs { name: 'jobs/0123456789abcdef01' state: JOB_STATE_SUCCEEDED kind: JOB_KIND_COMPRESS_MODEL
             labels { key: 'team' value: 'x' } labels { key: 'run' value: '3' }
             create_time { seconds: 1700000000 } start_time { seconds: 1700000001 }
             end_time { seconds: 1700000091 } progress { percent: 100 }
             compress_model_request { model: 'file:///models/organisation/SmolLM2-135M-Instruct'
                                      keep_ratios: 0.8 keep_ratios: 0.6 method: METHOD_SVD_LLM } }
      jobs { name: 'jobs/0123456789abcdef02' state: JOB_STATE_RUNNING kind: JOB_KIND_EVALUATE
             display_name: 'nightly' create_time { seconds: 1700000000 }
             start_time { seconds: 1700000001 } update_time { seconds: 1700000031 }
             progress { percent: 40 } evaluate_request { model: 'file:///m' } }
      jobs { name: 'jobs/0123456789abcdef03' state: JOB_STATE_QUEUED kind: JOB_KIND_EVALUATE
             queue_position: 12 create_time { seconds: 1700000000 }
             evaluate_request { model: 'file:///m' } })",
                                                            &list));
  return list;
}

TEST(JobListTest, SaysWhatWhenHowLongAndForWhom) {
  EXPECT_EQ(JobList({}, 0), "no jobs\n");
  const std::string text = JobList(List(), 0);
  EXPECT_THAT(text, HasSubstr("0.8,0.6"));
  EXPECT_THAT(text, HasSubstr("run=3,team=x"));
  EXPECT_THAT(text, HasSubstr("1m30s"));
  EXPECT_THAT(text, HasSubstr(" 30s "));
  EXPECT_THAT(text, HasSubstr("nightly"));
  EXPECT_THAT(text, HasSubstr("#12"));
  EXPECT_THAT(text, HasSubstr(" /models/organisation/SmolLM2-135M-Instruct\n"));
}

TEST(JobListTest, LeavesOutColumnsThatSayNothing) {
  v1::ListJobsResponse list = List();
  list.mutable_jobs()->DeleteSubrange(0, 2);
  EXPECT_THAT(JobList(list, 0), Not(HasSubstr("labels")));
  EXPECT_THAT(JobList(list, 0), Not(HasSubstr("called")));
}

TEST(JobListTest, FitsTheTerminal) {
  for (int columns = 60; columns < 240; ++columns) {
    const std::string text = JobList(List(), columns);
    for (const std::string& line : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
      EXPECT_LE(CountCharacters(line), static_cast<size_t>(columns)) << line;
    }
    EXPECT_THAT(text, HasSubstr("jobs/0123456789abcdef03  QUEUED"));
    // What tells models apart is at the end of their paths.
    EXPECT_THAT(text, HasSubstr("135M-Instruct\n"));
  }
  EXPECT_THAT(JobList(List(), 80), HasSubstr("…"));
  EXPECT_THAT(JobList(List(), 80), HasSubstr("took"));
  EXPECT_THAT(JobList(List(), 10), HasSubstr("jobs/0123456789abcdef03"));
}

}  // namespace
}  // namespace svdllm::cli
