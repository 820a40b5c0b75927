#include "text/json_rows.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/status_matchers.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class JsonRowsTest : public ::testing::Test {
 protected:
  static TextFile File(const std::string& text, bool whole = true) {
    TextFile file;
    file.path = "f.json";
    file.text = text;
    file.whole = whole;
    return file;
  }
  // "line 3 {...}"
  absl::StatusOr<std::vector<std::string>> Rows(const std::string& text, int64_t limit = 0,
                                                bool whole = true) {
    std::vector<std::string> rows;
    RETURN_IF_ERROR(
        ReadJsonRows(File(text, whole), limit, [&](const std::string& where, nlohmann::json value) {
          rows.push_back(where.substr(8) + " " + value.dump());
          return absl::OkStatus();
        }));
    return rows;
  }
  void Refuses(const std::string& text, std::initializer_list<std::string_view> parts) {
    EXPECT_STATUS(Rows(text), kInvalidArgument, kDatasetInvalid, parts) << text;
  }
};

TEST_F(JsonRowsTest, ReadsLinesAndArrays) {
  EXPECT_THAT(*Rows("{\"a\": 1}\r\n\n \"b\"\n3"),
              ElementsAre("line 1 {\"a\":1}", "line 3 \"b\"", "line 4 3"));
  EXPECT_THAT(*Rows("\n [1, \"a,]\\\"\", {\"b\": [2, {}]},\n[], \"é\" ] \n"),
              ElementsAre("element 0 1", "element 1 \"a,]\\\"\"", "element 2 {\"b\":[2,{}]}",
                          "element 3 []", "element 4 \"é\""));
  EXPECT_THAT(*Rows("[]"), IsEmpty());
  EXPECT_THAT(*Rows(""), IsEmpty());
  EXPECT_THAT(*Rows(" \n\t\n"), IsEmpty());
}

TEST_F(JsonRowsTest, FaultsArePlaced) {
  Refuses("1\n{\"é\": oops}\n", {"f.json: line 2, column 7: not valid JSON", "invalid literal"});
  Refuses("1\n2 3\n", {"line 2, column 3"});
  Refuses("[1,\n 2,\n }]", {"line 3, column 2"});
  Refuses("[1,\n 2", {"line 2", "array does not end"});
  Refuses("[1,\n \"2]", {"line 2", "array does not end"});
  Refuses("[", {"does not end"});
  Refuses("[1, 2,]", {"line 1, column 7"});
  Refuses("[1,,2]", {"line 1, column 4"});
  Refuses("[1]\n[2]", {"line 2, column 1", "behind the array"});
  Refuses("[" + std::string(100000, '[') + std::string(100000, ']') + "]", {"nested too deeply"});
  Refuses("{\n  \"data\": []\n}\n", {"line 1", "one object over several lines"});
  Refuses("text,label\na,1\n", {"line 1, column 2", "CSV", "pandas.read_csv(\"f.json\")"});
  Refuses("text\tlabel\na\t1\n", {"CSV"});
}

TEST_F(JsonRowsTest, WhatPythonWritesBesidesIsReadOrExplained) {
  EXPECT_THAT(*Rows(R"({"text": "NaN", "a": NaN, "b": [-Infinity, Infinity], "c": "\"NaN"})"),
              ElementsAre(R"(line 1 {"a":{},"b":[{},{}],"c":"\"NaN","text":"NaN"})"));
  EXPECT_THAT(*Rows("[{\"a\":NaN}]"), ElementsAre("element 0 {\"a\":{}}"));
  Refuses("{\"a\": NaN,\n", {"line 1"});
  Refuses("1\n{\"text\": \"half \\ud83d of one\"}", {"line 2, column 2", "surrogate"});
  EXPECT_THAT(*Rows(R"("\ud83d\ude00")"), ElementsAre("line 1 \"😀\""));
}

TEST_F(JsonRowsTest, LimitsAndPartsLookNoFurther) {
  EXPECT_THAT(*Rows("1\n2\noops", 2), ElementsAre("line 1 1", "line 2 2"));
  EXPECT_THAT(*Rows("[1, 2, oops", 2), ElementsAre("element 0 1", "element 1 2"));
  EXPECT_THAT(*Rows("1\n2\n{\"te", 0, false), ElementsAre("line 1 1", "line 2 2"));
  EXPECT_THAT(*Rows("[1, 2, {\"te", 0, false), ElementsAre("element 0 1", "element 1 2"));
  EXPECT_THAT(*Rows("[1, 2, ", 0, false), ElementsAre("element 0 1", "element 1 2"));
}

TEST_F(JsonRowsTest, TheSinksErrorEndsIt) {
  int calls = 0;
  const auto status = ReadJsonRows(File("1\n2\n"), 0, [&](const std::string&, nlohmann::json) {
    ++calls;
    return absl::CancelledError("enough");
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(calls, 1);
}

TEST_F(JsonRowsTest, UnannouncedJsonIsRefused) {
  for (const char* text : {"{\"text\": \"a\"}\n{\"text\": \"b\"}\n", "\n{\"text\": NaN}",
                           "[{\"text\": \"a\"}]", "[\n  \"a\",\n  \"b\"\n]"}) {
    EXPECT_STATUS(RefuseUnannouncedJson(File(text)), kInvalidArgument, kDatasetInvalid,
                  {"f.json", "holds", ".json"})
        << text;
  }
  for (const char* text : {"", "Once upon a time", "{curly} braces\n", "[1] A footnote.", "[\"",
                           "[\"Hello,\" she said. And \"] more", "{\n", "\"quoted\"\n", "12\n"}) {
    SCOPED_TRACE(text);
    EXPECT_OK(RefuseUnannouncedJson(File(text)));
  }
}

}  // namespace
}  // namespace svdllm
