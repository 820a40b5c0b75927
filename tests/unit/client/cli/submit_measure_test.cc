// What compress and evaluate measure: from flags to the request.
#include <gmock/gmock.h>

#include "tests/unit/client/cli/submit_fixture.h"

namespace svdllm::cli {
namespace {

using testing::HasSubstr;

TEST_F(SubmitTest, EvaluationCanBeLeftOut) {
  EXPECT_EQ(Run(With(kCompress, {"--no_evaluation"})).exit_status, kExitOk);
  EXPECT_TRUE(script().compress_requests.at(0).evaluation().disabled());
  for (const char* flag :
       {"--evaluation=/e", "--dataset=/e", "--seq_len=32", "--limit=3", "--throughput"}) {
    const Ran ran = Run(With(kCompress, {"--no_evaluation", flag}));
    EXPECT_EQ(ran.exit_status, kExitUsage) << flag;
    EXPECT_THAT(ran.err, HasSubstr("excludes"));
  }
  for (const char* flag : {"--evaluation_seq_len=32", "--evaluation_limit=3", "--seq_len=32",
                           "--limit=3", "--dataset_packing=documents"}) {
    EXPECT_EQ(Run(With(kCompress, {flag})).exit_status, kExitUsage)
        << "held-out windows are as the calibration's";
  }
}

TEST_F(SubmitTest, EvaluateOfOneText) {
  ASSERT_EQ(Run({"evaluate", "--model=m", "--dataset=./a=b.txt"}).exit_status, kExitOk);
  ExpectRequest(script().evaluate_requests.at(0),
                "model: '/here/m' tasks { name: 'perplexity' dataset { uri: '/here/a=b.txt' } }");
}

TEST_F(SubmitTest, SpeedNeedsNoText) {
  ASSERT_EQ(Run({"evaluate", "--model=/m", "--throughput"}).exit_status, kExitOk);
  ExpectRequest(script().evaluate_requests.at(0), "model: '/m' throughput {}");
  ASSERT_EQ(Run({"evaluate", "--model=/m", "--throughput=1,16", "--prompt_tokens=64",
                 "--new_tokens=8", "--repetitions=5", "--baseline=/b", "--dataset=/t"})
                .exit_status,
            kExitOk);
  ExpectRequest(script().evaluate_requests.at(1), R"(
      model: '/m' tasks { name: 'perplexity' dataset { uri: '/t' } } baseline: '/b'
      throughput { batch_sizes: 1 batch_sizes: 16 prompt_tokens: 64 new_tokens: 8 repetitions: 5 }
      )");
  const Ran tasks = Run({"evaluate", "--model=/m", "--throughput", "--tasks=piqa"});
  EXPECT_EQ(tasks.exit_status, kExitUsage);
  EXPECT_THAT(tasks.err, HasSubstr("--dataset=piqa=FILE is missing"));
  const Ran text = Run({"evaluate", "--model=/m", "--throughput", "--limit=3", "--seq_len=64"});
  EXPECT_EQ(text.exit_status, kExitUsage);
  EXPECT_THAT(text.err, HasSubstr("--limit, --seq_len: for texts and tasks"));
  for (const char* flag :
       {"--packing=DOCUMENTS", "--dataset_packing=DOCUMENTS", "--text_field=body"}) {
    const Ran ran = Run({"evaluate", "--model=/m", "--throughput", flag});
    EXPECT_EQ(ran.exit_status, kExitUsage) << flag;
    EXPECT_THAT(ran.err, HasSubstr("for texts and tasks"));
  }
  for (const char* flag : {"--prompt_tokens=3", "--new_tokens=3", "--repetitions=3"}) {
    const Ran ran = Run({"evaluate", "--model=/m", "--dataset=/t", flag});
    EXPECT_EQ(ran.exit_status, kExitUsage);
    EXPECT_THAT(ran.err, HasSubstr("requires --throughput"));
  }
}

TEST_F(SubmitTest, SpeedOfACompression) {
  ASSERT_EQ(Run(With(kCompress, {"--throughput=2", "--new_tokens=8"})).exit_status, kExitOk);
  ExpectRequest(script().compress_requests.at(0), R"(
      model: '/m' keep_ratios: 0.8 calibration { text { uri: '/c' } }
      evaluation { throughput { batch_sizes: 2 new_tokens: 8 } })");
  EXPECT_EQ(Run(With(kCompress, {"--no_evaluation", "--throughput"})).exit_status, kExitUsage);
  EXPECT_EQ(Run(With(kCompress, {"--new_tokens=8"})).exit_status, kExitUsage);
}

TEST_F(SubmitTest, SeveralTextsAreNamedAfterTheirFiles) {
  ASSERT_EQ(
      Run({"evaluate", "--model=/m", "--dataset=/a/wiki.txt", "--dataset=/b/news.txt"}).exit_status,
      kExitOk);
  EXPECT_EQ(script().evaluate_requests.at(0).tasks(0).label(), "wiki");
  EXPECT_EQ(script().evaluate_requests.at(0).tasks(1).label(), "news");
}

TEST_F(SubmitTest, TasksOfOtherServersPassThrough) {
  ASSERT_EQ(Run({"evaluate", "--model=/m", "--tasks=perplexity,piqa", "--dataset=/w",
                 "--dataset=piqa=p.jsonl", "--answers=piqa=p.lst", "--fewshot=piqa=2:q.jsonl",
                 "--seq_len=64", "--limit=9"})
                .exit_status,
            kExitOk);
  ExpectRequest(script().evaluate_requests.at(0), R"(
      model: '/m'
      tasks { name: 'perplexity' seq_len: 64 limit: 9 dataset { uri: '/w' } }
      tasks { name: 'piqa' limit: 9 dataset { uri: '/here/p.jsonl' } labels_uri: '/here/p.lst'
              fewshot_uri: '/here/q.jsonl' num_fewshot: 2 })");
}

TEST_F(SubmitTest, CompressMayAskTasks) {
  ASSERT_EQ(Run(With(kCompress, {"--task=piqa=p.jsonl", "--answers=piqa=p.lst", "--task_limit=5"}))
                .exit_status,
            kExitOk);
  const v1::ReportEvaluation& evaluation = script().compress_requests.at(0).evaluation();
  ASSERT_EQ(evaluation.tasks_size(), 1);
  EXPECT_EQ(evaluation.tasks(0).dataset().uri(), "/here/p.jsonl");
  EXPECT_EQ(evaluation.tasks(0).labels_uri(), "/here/p.lst");
  EXPECT_EQ(evaluation.tasks(0).limit(), 5);
}

TEST_F(SubmitTest, CompressMeasuresWhatEvaluateMeasures) {
  const std::vector<std::string> measured = {"--tasks=wikitext2,openbookqa,piqa",
                                             "--tasks=perplexity",
                                             "--dataset=wikitext2=w.raw",
                                             "--dataset=openbookqa=/o.jsonl",
                                             "--dataset=piqa=/p.jsonl",
                                             "--dataset=news=/n.json",
                                             "--answers=piqa=/p.lst",
                                             "--fewshot=openbookqa=2:/f.jsonl",
                                             "--seq_len=64",
                                             "--limit=9",
                                             "--dataset_packing=PACKING_DOCUMENTS",
                                             "--text_field=body",
                                             "--throughput=1,2",
                                             "--new_tokens=8"};
  Ran ran = Run(With({"evaluate", "--model=/m"}, measured));
  ASSERT_EQ(ran.exit_status, kExitOk) << ran.err;
  ran = Run(With(kCompress, measured));
  ASSERT_EQ(ran.exit_status, kExitOk) << ran.err;
  const v1::EvaluateRequest& evaluate = script().evaluate_requests.at(0);
  ExpectRequest(evaluate, R"(
      model: '/m'
      tasks { name: 'wikitext2' seq_len: 64 limit: 9
              dataset { uri: '/here/w.raw' text_field: 'body' packing: PACKING_DOCUMENTS } }
      tasks { name: 'openbookqa' limit: 9 dataset { uri: '/o.jsonl' }
              fewshot_uri: '/f.jsonl' num_fewshot: 2 }
      tasks { name: 'piqa' limit: 9 dataset { uri: '/p.jsonl' } labels_uri: '/p.lst' }
      tasks { name: 'perplexity' label: 'news' seq_len: 64 limit: 9
              dataset { uri: '/n.json' text_field: 'body' packing: PACKING_DOCUMENTS } }
      throughput { batch_sizes: 1 batch_sizes: 2 new_tokens: 8 })");
  const v1::ReportEvaluation& report = script().compress_requests.at(0).evaluation();
  ASSERT_EQ(report.tasks_size(), evaluate.tasks_size());
  for (int i = 0; i < report.tasks_size(); ++i) {
    EXPECT_EQ(report.tasks(i).DebugString(), evaluate.tasks(i).DebugString());
  }
  EXPECT_EQ(report.throughput().DebugString(), evaluate.throughput().DebugString());
  const v1::TextSource& calibration = script().compress_requests.at(0).calibration().text();
  EXPECT_EQ(calibration.text_field(), "body") << "of every text";
  EXPECT_EQ(calibration.packing(), v1::PACKING_UNSPECIFIED) << "of --dataset's texts alone";
}

TEST_F(SubmitTest, ADatasetAloneIsAPerplexity) {
  ASSERT_EQ(Run(With(kCompress, {"--dataset=/w.txt", "--dataset=c4=/c.jsonl"})).exit_status,
            kExitOk);
  ExpectRequest(script().compress_requests.at(0), R"(
      model: '/m' keep_ratios: 0.8 calibration { text { uri: '/c' } }
      evaluation { tasks { name: 'perplexity' dataset { uri: '/w.txt' } }
                   tasks { name: 'perplexity' label: 'c4' dataset { uri: '/c.jsonl' } } })");
}

TEST_F(SubmitTest, EarlierSpellingsStandBesideTodays) {
  const Ran ran =
      Run(With(kCompress, {"--evaluation=/e.txt", "--evaluation_limit=2", "--task=piqa=/p.jsonl",
                           "--task_limit=3", "--answers=piqa=/p.lst", "--dataset=/w.txt",
                           "--limit=4", "--evaluation_seq_len=32", "--evaluation_packing=documents",
                           "--packing=documents"}));
  ASSERT_EQ(ran.exit_status, kExitOk) << ran.err;
  ExpectRequest(script().compress_requests.at(0), R"(
      model: '/m' keep_ratios: 0.8
      calibration { text { uri: '/c' packing: PACKING_DOCUMENTS } }
      evaluation {
        tasks { name: 'perplexity' seq_len: 32 limit: 4
                dataset { uri: '/w.txt' packing: PACKING_DOCUMENTS } }
        tasks { name: 'piqa' limit: 3 dataset { uri: '/p.jsonl' } labels_uri: '/p.lst' }
        tasks { name: 'perplexity' label: 'e' seq_len: 32 limit: 2
                dataset { uri: '/e.txt' packing: PACKING_DOCUMENTS } } })");
  ASSERT_EQ(Run(With(kCompress, {"--evaluation=/e.txt", "--task=piqa=/p.jsonl", "--limit=4"}))
                .exit_status,
            kExitOk);
  const v1::ReportEvaluation& report = script().compress_requests.at(1).evaluation();
  EXPECT_EQ(report.tasks(0).limit(), 4);
  EXPECT_EQ(report.tasks(1).limit(), 4);
  const Ran both =
      Run(With(kCompress, {"--evaluation=/e", "--seq_len=8", "--evaluation_seq_len=8"}));
  EXPECT_EQ(both.exit_status, kExitUsage);
  EXPECT_THAT(both.err, HasSubstr("--evaluation_seq_len"));
}

}  // namespace
}  // namespace svdllm::cli
