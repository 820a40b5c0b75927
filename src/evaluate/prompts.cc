#include "evaluate/prompts.h"

#include <algorithm>
#include <optional>

#include "corpus/encode.h"
#include "job/data_file.h"
#include "model/rope.h"
#include "tasks/load_items.h"
#include "tasks/text.h"

namespace svdllm {
namespace {

class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, int64_t positions)
      : tokenizer_(tokenizer), positions_(static_cast<size_t>(positions)) {
    prefix_ = tokenizer.bos_id().has_value() ? tokenizer.bos_id() : tokenizer.eos_id();
    if (prefix_) prefix_text_ = tokenizer.Decode(std::span(&*prefix_, 1), false);
  }

  absl::StatusOr<EncodedChoice> Choice(std::string_view context, std::string continuation) {
    std::vector<int32_t> ids, targets;
    if (context.empty()) {
      ASSIGN_OR_RETURN(targets, tokenizer_.Encode(continuation, /*add_special_tokens=*/false));
      if (!prefix_)
        return absl::InvalidArgumentError("an empty context, and no BOS to stand for it");
      ids = {*prefix_};
      if (!targets.empty() && targets[0] == *prefix_) targets.erase(targets.begin());
    } else {
      const std::string_view stripped = StripSpaceRight(context);
      continuation = std::string(context.substr(stripped.size())) + continuation;
      if (context_ids_.empty() || stripped != context_) {  // mostly that of the choice before
        context_ = stripped;
        ASSIGN_OR_RETURN(context_ids_, Encode(context_));
      }
      ASSIGN_OR_RETURN(const std::vector<int32_t> whole, Encode(context_ + continuation));
      ids = context_ids_;
      targets.assign(
          whole.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), whole.size())),
          whole.end());
    }
    if (ids.empty()) return absl::InvalidArgumentError("its context has no tokens");
    if (targets.empty()) return absl::InvalidArgumentError("it has no tokens of its own");
    if (targets.size() > positions_) {
      return absl::InvalidArgumentError("its " + std::to_string(targets.size()) +
                                        " tokens are more than the model's " +
                                        std::to_string(positions_) + " positions");
    }
    ids.insert(ids.end(), targets.begin(), targets.end() - 1);
    KeepLast(positions_, ids);
    return EncodedChoice{std::move(ids), std::move(targets)};
  }

  absl::StatusOr<std::vector<int32_t>> Prompt(const std::string& text, int64_t new_tokens) const {
    ASSIGN_OR_RETURN(std::vector<int32_t> ids, Encode(text));
    KeepLast(positions_ - static_cast<size_t>(new_tokens), ids);
    return ids;
  }

 private:
  absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text) const {
    const bool has_prefix = !prefix_text_.empty() && text.rfind(prefix_text_, 0) == 0;
    return tokenizer_.Encode(text, /*add_special_tokens=*/!has_prefix);
  }
  static void KeepLast(size_t count, std::vector<int32_t>& ids) {
    if (ids.size() > count) ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(count));
  }

  const Tokenizer& tokenizer_;
  const size_t positions_;
  std::optional<int32_t> prefix_;
  std::string prefix_text_;
  std::string context_;
  std::vector<int32_t> context_ids_;
};

TaskSource SourceOf(const TaskSpec& spec) {
  return {spec.path, spec.labels_path, spec.fewshot_path, spec.num_fewshot, spec.limit};
}

absl::Status Named(const absl::Status& status, const TaskSpec& spec) {
  return Annotate(status, spec.name);
}

std::string QuestionName(const TaskSpec& spec, size_t item) {
  return spec.name + ": question " + std::to_string(item);
}

absl::Status InvalidItem(const TaskSpec& spec, size_t item, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kDatasetInvalid,
                   QuestionName(spec, item) + ": " + what);
}

}  // namespace

size_t SharedBeginning(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

absl::Status CheckTask(const TaskSpec& spec) {
  const absl::StatusOr<const TaskRow*> task = FindTask(spec.task);
  if (!task.ok()) return Named(task.status(), spec);
  TaskSource source = SourceOf(spec);
  source.limit = 1;
  return Named(LoadItems(**task, source).status(), spec);
}

absl::StatusOr<TaskData> LoadTask(const TaskSpec& spec, const Tokenizer& tokenizer,
                                  const ModelConfig& config) {
  TaskData data;
  data.spec = spec;
  absl::StatusOr<const TaskRow*> task = FindTask(spec.task);
  if (!task.ok()) return Named(task.status(), spec);
  data.task = *task;
  absl::StatusOr<std::vector<TaskItem>> items = LoadItems(**task, SourceOf(spec));
  if (!items.ok()) return Named(items.status(), spec);
  data.items = *std::move(items);
  for (const std::string* path : {&spec.path, &spec.labels_path, &spec.fewshot_path}) {
    if (path->empty()) continue;
    ASSIGN_OR_RETURN(data.files.emplace_back(), DataFileOf(*path, *path));
  }

  const int64_t positions = config.max_position_embeddings;
  Encoder encoder(tokenizer, positions);
  if (data.task->kind == TaskKind::kGeneration) {
    // A model with few positions keeps half of them for the prompt.
    data.new_tokens = std::min(kMaxNewTokens, std::max<int64_t>(positions / 2, 1));
    for (const TaskItem& item : data.items) {
      ASSIGN_OR_RETURN(std::vector<int32_t> prompt,
                       encoder.Prompt(item.contexts[0], data.new_tokens));
      data.prompts.push_back(std::move(prompt));
      RETURN_IF_ERROR(CheckTokens(data.prompts.back(), tokenizer, config,
                                  QuestionName(spec, data.prompts.size() - 1)));
      if (data.prompts.back().empty()) {
        return InvalidItem(spec, data.prompts.size() - 1, "its prompt has no tokens");
      }
      const auto length = static_cast<int64_t>(data.prompts.back().size());
      if (!SameFrequencies(config, length, length + data.new_tokens - 1)) {
        return InvalidItem(spec, data.prompts.size() - 1,
                           "the model's rotary frequencies change between its " +
                               std::to_string(length) + " tokens and the end of the answer");
      }
    }
    return data;
  }
  for (size_t i = 0; i < data.items.size(); ++i) {
    const TaskItem& item = data.items[i];
    std::vector<EncodedChoice>& choices = data.choices.emplace_back();
    for (int64_t c = 0; c < item.choice_count(); ++c) {
      absl::StatusOr<EncodedChoice> choice = encoder.Choice(item.context(c), item.continuation(c));
      if (!ErrorReason(choice.status()).empty()) {  // not the question's fault
        return Annotate(choice.status(), QuestionName(spec, i));
      }
      if (!choice.ok()) {
        return InvalidItem(
            spec, i, "choice " + std::to_string(c) + ": " + std::string(choice.status().message()));
      }
      for (const std::vector<int32_t>* ids : {&choice->ids, &choice->targets}) {
        RETURN_IF_ERROR(CheckTokens(*ids, tokenizer, config, QuestionName(spec, i)));
      }
      choices.push_back(*std::move(choice));
    }
  }
  return data;
}

}  // namespace svdllm
