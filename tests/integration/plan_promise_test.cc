// What a plan promises: what it lets through starts to compute, and what it refuses it refuses by a
// name. Requests and model directories are changed at random, the same ones in every run.
//
// SVDLLM_PROMISE_CASES: how many of each; SVDLLM_PROMISE_FIRST: the number of the first.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "base/files.h"
#include "server/job_api.h"
#include "server/run_job.h"
#include "server/spec_proto.h"
#include "tests/support/packed.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Json = nlohmann::json;

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

class Random {
 public:
  explicit Random(uint64_t seed) : random_(seed) {}
  size_t Below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }
  bool OneIn(size_t n) { return Below(n) == 0; }
  template <typename T>
  const T& Of(const std::vector<T>& values) {
    return values[Below(values.size())];
  }

 private:
  std::mt19937_64 random_;
};

class PlanPromiseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string text, lines;
    for (int i = 0; i < 300; ++i) {
      const std::string line = "Line " + std::to_string(i * i) + " of a text.";
      text += line + "\n";
      lines += Json{{"text", line}}.dump() + "\n";
    }
    text_ = dir_.Write("text.txt", text);
    testing::WriteTinyCheckpoint(model_);
    store_ = *OpenSqliteJobStore({dir_.File("jobs.db"), {}});
    artifacts_ = *NewFileStore({{dir_.path()}, dir_.File("artifacts")});
    engine_ = *PipelineEngine({{"cpu"}});
    ApiOptions options;
    options.max_queued = 1'000'000;
    api_ = std::make_unique<JobApi>(*store_, engine_, CheckHere(engine_, *artifacts_), options);
    // Texts as well, for tasks that read one.
    std::string questions;
    for (const char* query : {"Line 1", "Line 4"}) {
      const Json choices = {"is", "is not"};
      questions +=
          Json{{"text", query}, {"query", query}, {"choices", choices}, {"gold", 0}}.dump() + "\n";
    }
    questions_ = dir_.Write("questions.jsonl", questions);
    paths_ = {model_,
              text_,
              questions_,
              dir_.Write("lines.jsonl", lines),
              dir_.path(),
              dir_.File("absent"),
              "relative.txt",
              "s3://bucket/key",
              "",
              "/etc/passwd",
              std::string(5000, 'x')};
    texts_ = {text_, dir_.Write("packed.txt.gz", testing::Gzip(text)),
              dir_.Write("packed.jsonl.gz", testing::Gzip(lines))};
    for (const auto& [name, content] :
         std::map<std::string, std::string>{{"empty.txt", ""},
                                            {"short.txt", "short"},
                                            {"numbers.jsonl", "1\n2\n"},
                                            {"table.txt", "PAR1....PAR1"},
                                            {"latin.txt", "caf\xe9 au lait"}}) {
      texts_.push_back(dir_.Write(name, content));
    }
    texts_.insert(texts_.end(), paths_.begin(), paths_.end());
  }

  v1::CompressModelRequest Compression() const {
    v1::CompressModelRequest request;
    request.set_model(model_);
    request.add_keep_ratios(0.6);
    request.mutable_calibration()->mutable_text()->set_uri(text_);
    request.mutable_calibration()->set_samples(4);
    request.mutable_calibration()->set_seq_len(16);
    return request;
  }
  v1::EvaluateRequest Evaluation() const {
    v1::EvaluateRequest request;
    request.set_model(model_);
    v1::EvaluationTask& text = *request.add_tasks();
    text.set_name("perplexity");
    text.mutable_dataset()->set_uri(text_);
    text.set_limit(2);
    text.set_seq_len(16);
    v1::EvaluationTask& questions = *request.add_tasks();
    questions.set_name("multiple_choice");
    questions.mutable_dataset()->set_uri(questions_);
    return request;
  }

  // Changes something of a message, or of one below it.
  void Change(Random& random, Message& message) {
    const auto& descriptor = *message.GetDescriptor();
    const auto& reflection = *message.GetReflection();
    // Half of the time what is there already, so that what lies deep is changed as well.
    std::vector<const FieldDescriptor*> fields;
    if (random.OneIn(2)) reflection.ListFields(message, &fields);
    if (fields.empty()) {
      for (int i = 0; i < descriptor.field_count(); ++i) fields.push_back(descriptor.field(i));
    }
    const FieldDescriptor& field = *random.Of(fields);
    if (field.is_map() || field.options().deprecated()) return;
    if (random.OneIn(8)) return reflection.ClearField(&message, &field);
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (!field.is_repeated()) return Change(random, *reflection.MutableMessage(&message, &field));
      const int size = reflection.FieldSize(message, &field);
      if (size == 0 || random.OneIn(4)) reflection.AddMessage(&message, &field);
      const auto at = static_cast<int>(
          random.Below(static_cast<size_t>(reflection.FieldSize(message, &field))));
      return Change(random, *reflection.MutableRepeatedMessage(&message, &field, at));
    }
    SetValue(random, field, message);
  }

  void SetValue(Random& random, const FieldDescriptor& field, Message& message) {
    const auto& reflection = *message.GetReflection();
    const auto set = [&](auto setter, auto adder, auto value) {
      field.is_repeated() ? (reflection.*adder)(&message, &field, value)
                          : (reflection.*setter)(&message, &field, value);
    };
    using google::protobuf::Reflection;
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return set(&Reflection::SetInt32, &Reflection::AddInt32,
                   static_cast<int32_t>(random.Of(integers_)));
      case FieldDescriptor::CPPTYPE_INT64:
        return set(&Reflection::SetInt64, &Reflection::AddInt64, random.Of(integers_));
      case FieldDescriptor::CPPTYPE_UINT64:
        return set(&Reflection::SetUInt64, &Reflection::AddUInt64,
                   static_cast<uint64_t>(random.Of(integers_)));
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return set(&Reflection::SetDouble, &Reflection::AddDouble, random.Of(reals_));
      case FieldDescriptor::CPPTYPE_BOOL:
        return set(&Reflection::SetBool, &Reflection::AddBool, random.OneIn(2));
      case FieldDescriptor::CPPTYPE_ENUM: {
        const auto values = static_cast<size_t>(field.enum_type()->value_count());
        return set(&Reflection::SetEnumValue, &Reflection::AddEnumValue,
                   static_cast<int>(random.Below(values + 1)));
      }
      case FieldDescriptor::CPPTYPE_STRING:
        return set(&Reflection::SetString, &Reflection::AddString, TextFor(random, field.name()));
      default:
        return;
    }
  }

  std::string TextFor(Random& random, const std::string& field) {
    if (field == "name") {
      std::vector<std::string> names = {"", "nothing"};
      const v1::ServerInfo info = api_->GetServerInfo();
      names.insert(names.end(), info.tasks().begin(), info.tasks().end());
      return random.Of(names);
    }
    if (field == "output_uri") {
      return random.Of(std::vector<std::string>{"out", "out/below", "a/b/c", "../x", ".staging-x",
                                                "/etc/x", std::string(300, 'n'), ""});
    }
    if (field == "request_id") {
      return random.Of(
          std::vector<std::string>{"", "no uuid", "123e4567-e89b-42d3-a456-426614174000"});
    }
    if (field == "model" || field == "baseline") return random.Of(paths_);
    if (field.ends_with("uri")) return random.Of(texts_);
    return random.Of(std::vector<std::string>{"", "text", "perplexity", "held_out_perplexity",
                                              "é\n\x1b[2J", std::string(300, 'l')});
  }

  // Runs the job until it has computed something, or for some seconds.
  template <typename Spec, typename Result>
  void ExpectStarts(const v1::Job& job, absl::StatusOr<Spec> spec,
                    const std::function<absl::StatusOr<Result>(const Spec&, ArtifactStore&,
                                                               const RunHooks&)>& run) {
    ASSERT_TRUE(spec.ok()) << spec.status();
    spec->job_id = job.name().substr(5);
    bool computes = false;
    int checks = 0;
    const auto started = std::chrono::steady_clock::now();
    RunHooks hooks;
    hooks.on_progress = [&](const ProgressEvent& progress) {
      computes = computes || progress.stage != "load";
    };
    hooks.check = [&] {
      const bool enough = std::chrono::steady_clock::now() - started > std::chrono::seconds(3);
      return (computes && ++checks > 100) || enough ? absl::CancelledError("enough")
                                                    : absl::OkStatus();
    };
    const absl::Status ended = run(*spec, *artifacts_, hooks).status();
    ++started_;
    if (ended.ok() || (absl::IsCancelled(ended) && ErrorReason(ended).empty())) return;
    // Numbers that overflow are found by computing, be it at the first step.
    EXPECT_TRUE(computes || ErrorReason(ended) == kNumericalFailure)
        << ended << "\nhad been let through:\n"
        << job.DebugString();
    ExpectNamed(ended);
  }
  void ExpectStarts(const v1::Job& job) {
    fs::create_directories(dir_.File("work"));
    if (job.has_evaluate_request()) {
      ExpectStarts(job, ToSpec(job.evaluate_request(), *artifacts_, dir_.File("work")),
                   engine_.run_evaluate);
    } else {
      ExpectStarts(job, ToSpec(job.compress_model_request(), *artifacts_, dir_.File("work")),
                   engine_.run_compress);
    }
    EXPECT_TRUE(store_->Cancel(job.name().substr(5)).ok());
  }

  static void ExpectNamed(const absl::Status& status) {
    const std::string reason = ErrorReason(status);
    EXPECT_FALSE(reason.empty()) << status;
    EXPECT_NE(reason, kInternal) << status;
    EXPECT_FALSE(status.message().empty()) << reason;
  }

  // What is let through has to start, and what is not has to be told why.
  void Judge(const absl::StatusOr<v1::Job>& job) {
    if (!job.ok()) {
      ++refused_[ErrorReason(job.status())];
      return ExpectNamed(job.status());
    }
    if (!job->name().empty()) return ExpectStarts(*job);
    ++planned_;
  }
  void PrintCounts(const char* what) const {
    std::printf("%s: %d started, %d only planned; refused:", what, started_, planned_);
    for (const auto& [reason, count] : refused_) std::printf(" %s %d", reason.c_str(), count);
    std::printf("\n");
  }

  testing::TempDir dir_;
  std::string model_ = dir_.File("model");
  std::string text_, questions_;
  std::vector<std::string> paths_, texts_;  // of models and of texts
  const std::vector<int64_t> integers_ = {-1,
                                          0,
                                          1,
                                          2,
                                          3,
                                          4,
                                          7,
                                          16,
                                          63,
                                          64,
                                          128,
                                          129,
                                          200,
                                          257,
                                          std::numeric_limits<int32_t>::max(),
                                          std::numeric_limits<int64_t>::max(),
                                          std::numeric_limits<int64_t>::min()};
  const std::vector<double> reals_ = {-0.5,
                                      0,
                                      0.001,
                                      0.05,
                                      0.1,
                                      0.3,
                                      0.6,
                                      0.9,
                                      1,
                                      1.5,
                                      1e9,
                                      1e-300,
                                      1e300,
                                      std::numeric_limits<double>::infinity(),
                                      std::numeric_limits<double>::quiet_NaN()};
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<ArtifactStore> artifacts_;
  Engine engine_;
  std::unique_ptr<JobApi> api_;
  int started_ = 0, planned_ = 0;
  std::map<std::string, int> refused_;
};

TEST_F(PlanPromiseTest, OfRequests) {
  const int64_t first = FromEnvironment("SVDLLM_PROMISE_FIRST", 0);
  const int64_t cases = FromEnvironment("SVDLLM_PROMISE_CASES", 500);
  for (int64_t number = first; number < first + cases && !HasFailure(); ++number) {
    SCOPED_TRACE("request " + std::to_string(number));
    Random random(static_cast<uint64_t>(number));
    const auto change = [&](Message& message) {
      for (size_t changes = random.Below(3) + 1; changes > 0; --changes) Change(random, message);
    };
    if (random.OneIn(3)) {
      v1::EvaluateRequest request = Evaluation();
      change(request);
      Judge(api_->Evaluate(request, Caller{.peer = "peer"}));
    } else {
      v1::CompressModelRequest request = Compression();
      change(request);
      Judge(api_->CompressModel(request, Caller{.peer = "peer"}));
    }
  }
  PrintCounts("requests");
  if (cases < 100) return;
  EXPECT_GT(started_, cases / 10) << "what is refused always proves nothing";
}

// A JSON value in place of another, or one more, or one less.
void ChangeJson(Random& random, Json& json) {
  static const std::vector<Json> values = {nullptr,
                                           true,
                                           -1,
                                           0,
                                           1,
                                           2,
                                           3,
                                           16,
                                           1e9,
                                           0.5,
                                           "x",
                                           "silu",
                                           "",
                                           Json::array(),
                                           Json::object(),
                                           {1, 2},
                                           "linear",
                                           "float16",
                                           {{"type", "dynamic"}}};
  static const std::vector<std::string> keys = {
      "rope_scaling",      "sliding_window", "tie_word_embeddings", "num_key_value_heads",
      "head_dim",          "attention_bias", "hidden_act",          "max_position_embeddings",
      "num_hidden_layers", "hidden_size",    "vocab_size",          "intermediate_size",
      "model_type",        "architectures",  "torch_dtype",         "quantization_config"};
  if (!json.is_object()) {
    json = random.Of(values);
    return;
  }
  std::vector<std::string> own;
  for (const auto& [key, value] : json.items()) own.push_back(key);
  const std::string key = own.empty() || random.OneIn(4) ? random.Of(keys) : random.Of(own);
  if (random.OneIn(3)) {
    json.erase(key);
  } else if (json.contains(key) && json[key].is_object() && !random.OneIn(3)) {
    ChangeJson(random, json[key]);
  } else {
    json[key] = random.Of(values);
  }
}

void ChangeBytes(Random& random, std::string& bytes) {
  // Headers and beginnings are what is read first.
  const size_t within = random.OneIn(4) ? std::min<size_t>(bytes.size(), 400) : bytes.size();
  const size_t at = random.Below(within + 1);
  switch (random.Below(8)) {
    case 0:
      bytes.resize(at);
      break;
    case 1:
      bytes.insert(at, std::string(random.Below(9), '9'));
      break;
    case 2:
      bytes.erase(at, random.Below(9));
      break;
    default:
      if (at < bytes.size()) bytes[at] = static_cast<char>(random.Below(256));
  }
}

void ChangeModel(Random& random, const std::string& dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  if (names.empty()) return;
  const std::string path = dir + "/" + (random.OneIn(2) ? "config.json" : random.Of(names));
  if (!fs::is_regular_file(path)) return;
  std::string bytes = *ReadFile(path);
  const bool json = path.ends_with(".json");
  switch (random.Below(json ? 20 : 10)) {
    case 0:
      fs::remove(path);
      return;
    case 1:
      fs::rename(path, path + ".bak");
      return;
    case 2:
      fs::remove(path);
      fs::create_directory(path);
      return;
    case 3:
      bytes = "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') +
              "\nsize 1234\n";
      break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
      ChangeBytes(random, bytes);
      break;
    default: {
      Json value = Json::parse(bytes, nullptr, /*allow_exceptions=*/false);
      if (!value.is_discarded()) ChangeJson(random, value);
      bytes = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    }
  }
  fs::remove(path);
  EXPECT_TRUE(WriteFileAtomic(path, bytes).ok());
}

TEST_F(PlanPromiseTest, OfModels) {
  std::vector<std::pair<std::string, testing::TinyCheckpointOptions>> families;
  for (const auto& family : testing::TinyFamilies()) families.push_back(family);
  const int64_t first = FromEnvironment("SVDLLM_PROMISE_FIRST", 0);
  const int64_t cases = FromEnvironment("SVDLLM_PROMISE_CASES", 200);
  for (int64_t number = first; number < first + cases && !HasFailure(); ++number) {
    Random random(static_cast<uint64_t>(number) + 1'000'000);
    const auto& [name, options] = random.Of(families);
    SCOPED_TRACE("model " + std::to_string(number) + ", " + name);
    fs::remove_all(model_);
    testing::WriteTinyCheckpoint(model_, options);
    for (size_t changes = random.Below(2) + 1; changes > 0; --changes) ChangeModel(random, model_);
    v1::CompressModelRequest request = Compression();
    request.set_method(random.OneIn(2) ? v1::METHOD_SVD_LLM : v1::METHOD_UNSPECIFIED);
    Judge(api_->CompressModel(request, Caller{.peer = "peer"}));
    Judge(api_->Evaluate(Evaluation(), Caller{.peer = "peer"}));
  }
  PrintCounts("models");
  if (cases < 50) return;
  EXPECT_GT(started_, cases / 5) << "what is refused always proves nothing";
}

}  // namespace
}  // namespace svdllm
