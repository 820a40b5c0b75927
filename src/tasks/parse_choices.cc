#include <algorithm>
#include <functional>

#include "base/utf8.h"
#include "tasks/parse.h"
#include "tasks/text.h"
#include "tasks/text_pattern.h"

namespace svdllm {
namespace {

using Json = nlohmann::json;

// One context and an answer of each choice, a space in between.
absl::StatusOr<TaskItem> OneContext(const Record& record, std::string context,
                                    std::vector<std::string> choices, int64_t gold) {
  if (choices.size() < 2) return InvalidRecord(record, "fewer than two choices");
  if (gold < 0 || gold >= static_cast<int64_t>(choices.size())) {
    return InvalidRecord(record, "the answer, " + std::to_string(gold) + ", is none of the " +
                                     std::to_string(choices.size()) + " choices");
  }
  TaskItem item;
  item.contexts = {std::move(context)};
  for (const std::string& choice : choices) item.continuations.push_back(" " + choice);
  item.choices = std::move(choices);
  item.gold = gold;
  return item;
}

absl::StatusOr<TaskItem> OneContinuation(const Record& record, std::vector<std::string> contexts,
                                         const std::string& continuation, int64_t gold) {
  if (contexts.size() < 2) return InvalidRecord(record, "fewer than two contexts");
  if (gold < 0 || gold >= static_cast<int64_t>(contexts.size())) {
    return InvalidRecord(record, "the answer, " + std::to_string(gold) + ", is none of the " +
                                     std::to_string(contexts.size()) + " contexts");
  }
  TaskItem item;
  item.choices.assign(contexts.size(), continuation);
  item.contexts = std::move(contexts);
  item.continuations = {" " + continuation};
  item.gold = gold;
  return item;
}

struct LabelledChoices {
  std::vector<std::string> texts, labels;
};

// [{"text", "label"}, …] as AI2 has it, or {"text": […], "label": […]} as the hub has it.
absl::StatusOr<LabelledChoices> ParseChoices(const Record& record, const Json& value) {
  LabelledChoices choices;
  const Record inner{record.where + ": field 'choices'", value};
  if (value.is_object()) {
    ASSIGN_OR_RETURN(choices.texts, Texts(inner, "text"));
    ASSIGN_OR_RETURN(choices.labels, Texts(inner, "label"));
    if (choices.texts.size() == choices.labels.size()) return choices;
  } else if (value.is_array()) {
    for (const Json& element : value) {
      const Record choice{inner.where, element};
      ASSIGN_OR_RETURN(choices.texts.emplace_back(), Text(choice, "text"));
      ASSIGN_OR_RETURN(choices.labels.emplace_back(), Text(choice, "label"));
    }
    return choices;
  }
  return InvalidRecord(inner, "not a list of texts and labels");
}

// A question of AI2's datasets: {"question": {"stem", "choices"}, "answerKey"}, or the hub's form
// of it with the stem in a field of its own.
absl::StatusOr<TaskItem> ParseAi2(const Record& record, const char* stem_field,
                                  const std::function<std::string(const std::string&)>& prompt) {
  const auto question = record.fields.find("question");
  const bool nested = question != record.fields.end() && question->is_object();
  const Record inner{record.where, nested ? *question : record.fields};
  ASSIGN_OR_RETURN(const std::string stem, Text(inner, nested ? "stem" : stem_field));
  const auto value = inner.fields.find("choices");
  if (value == inner.fields.end()) return InvalidRecord(record, "no field 'choices'");
  ASSIGN_OR_RETURN(LabelledChoices choices, ParseChoices(record, *value));
  ASSIGN_OR_RETURN(const std::string key, Text(record, "answerKey"));
  const auto found =
      std::find(choices.labels.begin(), choices.labels.end(), std::string(StripSpace(key)));
  if (found == choices.labels.end()) {
    return InvalidRecord(record, "field 'answerKey': '" + key + "' is no choice's label");
  }
  return OneContext(record, prompt(stem), std::move(choices.texts), found - choices.labels.begin());
}

std::string QuestionAnswer(const std::string& question) {
  return "Question: " + question + "\nAnswer:";
}

// HellaSwag's WikiHow part has traces of its mark-up.
std::string CleanHellaSwag(const std::string& text) {
  static const TextPattern brackets("\\[.*?\\]");
  const std::string titles = ReplaceAll(StripSpace(text), " [title]", ". ");
  return ReplaceAll(brackets.Replace(titles, ""), "  ", " ");
}

}  // namespace

absl::StatusOr<TaskItem> ParseOpenBookQa(const Record& record) {
  return ParseAi2(record, "question_stem", [](const std::string& stem) { return stem; });
}

absl::StatusOr<TaskItem> ParseArc(const Record& record) {
  if (!record.fields.contains("query")) return ParseAi2(record, "question", QuestionAnswer);
  // Re-encoded: the query begins as the prompt does.
  ASSIGN_OR_RETURN(TaskItem item, ParseGenericChoice(record));
  item.contexts[0] += "\nAnswer:";
  return item;
}

absl::StatusOr<TaskItem> ParseWinoGrande(const Record& record) {
  if (record.fields.contains("context_options")) return ParseGenericChoice(record);
  ASSIGN_OR_RETURN(const std::string sentence, Text(record, "sentence"));
  const size_t gap = sentence.find('_');
  if (gap == std::string::npos) {
    return InvalidRecord(record, "field 'sentence' has no _ to fill in");
  }
  std::vector<std::string> contexts;
  for (const char* const field : {"option1", "option2"}) {
    ASSIGN_OR_RETURN(const std::string option, Text(record, field));
    contexts.push_back(sentence.substr(0, gap) + option);
  }
  ASSIGN_OR_RETURN(const int64_t answer, Integer(record, "answer"));
  return OneContinuation(record, std::move(contexts),
                         std::string(StripSpace(sentence.substr(gap + 1))), answer - 1);
}

absl::StatusOr<TaskItem> ParseHellaSwag(const Record& record) {
  if (record.fields.contains("query")) return ParseGenericChoice(record);
  ASSIGN_OR_RETURN(const std::string activity, Text(record, "activity_label"));
  ASSIGN_OR_RETURN(const std::string first, Text(record, "ctx_a"));
  ASSIGN_OR_RETURN(const std::string second, Text(record, "ctx_b"));
  ASSIGN_OR_RETURN(std::vector<std::string> endings, Texts(record, "endings"));
  ASSIGN_OR_RETURN(const int64_t label, Integer(record, "label"));
  for (std::string& ending : endings) ending = CleanHellaSwag(ending);
  return OneContext(record, CleanHellaSwag(activity + ": " + first + " " + Capitalize(second)),
                    std::move(endings), label);
}

absl::StatusOr<TaskItem> ParsePiqa(const Record& record) {
  ASSIGN_OR_RETURN(const std::string goal, Text(record, "goal"));
  std::vector<std::string> choices(2);
  ASSIGN_OR_RETURN(choices[0], Text(record, "sol1"));
  ASSIGN_OR_RETURN(choices[1], Text(record, "sol2"));
  ASSIGN_OR_RETURN(const int64_t label, Integer(record, "label"));
  return OneContext(record, QuestionAnswer(goal), std::move(choices), label);
}

absl::StatusOr<TaskItem> ParseMathQa(const Record& record) {
  static const TextPattern option("[abcd] \\) .*?, |e \\) .*?$");
  ASSIGN_OR_RETURN(const std::string problem, Text(record, "Problem"));
  ASSIGN_OR_RETURN(const std::string options, Text(record, "options"));
  ASSIGN_OR_RETURN(const std::string correct, Text(record, "correct"));
  std::vector<std::string> choices;
  for (const auto& match : option.FindAll(options)) {
    const std::string_view choice = match[0].substr(4);  // behind "a ) "
    const size_t end = choice.find_last_not_of(" ,");
    choices.emplace_back(choice.substr(0, end == std::string_view::npos ? 0 : end + 1));
  }
  const size_t gold =
      correct.size() == 1 ? std::string_view("abcde").find(correct) : choices.size();
  return OneContext(record, QuestionAnswer(problem), std::move(choices),
                    static_cast<int64_t>(gold));
}

absl::StatusOr<TaskItem> ParseGenericChoice(const Record& record) {
  ASSIGN_OR_RETURN(const int64_t gold, Integer(record, "gold"));
  if (record.fields.contains("context_options")) {
    ASSIGN_OR_RETURN(std::vector<std::string> contexts, Texts(record, "context_options"));
    ASSIGN_OR_RETURN(const std::string continuation, Text(record, "continuation"));
    return OneContinuation(record, std::move(contexts), continuation, gold);
  }
  ASSIGN_OR_RETURN(std::string query, Text(record, "query"));
  ASSIGN_OR_RETURN(std::vector<std::string> choices, Texts(record, "choices"));
  return OneContext(record, std::move(query), std::move(choices), gold);
}

}  // namespace svdllm
