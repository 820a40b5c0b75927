#include <gtest/gtest.h>

#include <cstring>

#include "formats/safetensors.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using testing::SafetensorsBytes;
using testing::TempDir;

struct Case {
  const char* name;
  std::string bytes;
  std::initializer_list<std::string_view> expected;
};

std::string WithLength(uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

// A file with one tensor "w" described by text, with 16 bytes of data.
std::string Tensor(const std::string& text) {
  return SafetensorsBytes("{\"w\":" + text + "}", std::string(16, 'x'));
}

std::string Repeat(std::string_view text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

class Malformed : public ::testing::TestWithParam<Case> {};

TEST_P(Malformed, IsRefusedWithTheNameInTheMessage) {
  TempDir dir;
  const std::string path = dir.Write("bad.safetensors", GetParam().bytes);
  const auto file = SafetensorsFile::Open(path);
  EXPECT_STATUS(file, kInvalidArgument, kModelCorrupt, {path});
  EXPECT_STATUS(file, kInvalidArgument, kModelCorrupt, GetParam().expected);
}

const std::string kGood = R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})";

const Case kCases[] = {
    {"Empty", "", {"truncated: 0 bytes"}},
    {"ShorterThanLength", "1234567", {"truncated: 7 bytes"}},
    {"LengthPastTheEnd", WithLength(1000, "{}"), {"truncated", "1000"}},
    {"LengthBomb", WithLength(~uint64_t{0}, "{}"), {"header length 18446744073709551615"}},
    {"LengthOverLimit", WithLength(100'000'001, "{}"), {"header length 100000001", "limit"}},
    {"EmptyHeader", WithLength(0, ""), {"not valid JSON"}},
    {"NotJson", SafetensorsBytes("{\"w\":", ""), {"not valid JSON"}},
    {"NotUtf8", SafetensorsBytes("{\"\xff\xfe\":{}}", ""), {"not valid JSON"}},
    {"TextBehind", SafetensorsBytes("{}{}", ""), {"not valid JSON"}},
    {"NulPadding", SafetensorsBytes(std::string("{}\0\0", 4), ""), {"not valid JSON"}},
    {"ArrayAtTheTop", SafetensorsBytes("[]", ""), {"header: an array is not expected"}},
    {"NumberAtTheTop", SafetensorsBytes("1", ""), {"header: a number is not expected"}},
    {"ArrayBomb", SafetensorsBytes(Repeat("[", 1'000'000), ""), {"an array is not expected"}},
    {"ObjectBomb", SafetensorsBytes(Repeat("{\"w\":", 1'000'000), ""), {"w: w: unknown key"}},
    {"ShapeBomb",
     Tensor(R"({"dtype":"F32","shape":)" + Repeat("[", 1'000'000)),
     {"w: shape: an array is not expected"}},
    {"TensorIsNull", Tensor("null"), {"w: null is not expected"}},
    {"TensorIsText", Tensor("\"x\""), {"w: a string is not expected"}},
    {"TensorTwice",
     SafetensorsBytes("{\"w\":" + kGood + ",\"w\":" + kGood + "}", std::string(16, 'x')),
     {"w: the name appears twice"}},
    {"KeyTwice",
     Tensor(R"({"dtype":"F32","shape":[4],"shape":[4],"data_offsets":[0,16]})"),
     {"w: shape: the key appears twice"}},
    {"UnknownKey",
     Tensor(R"({"dtype":"F32","stride":[4],"shape":[4],"data_offsets":[0,16]})"),
     {"w: stride: unknown key"}},
    {"NoDtype", Tensor(R"({"shape":[4],"data_offsets":[0,16]})"), {"w: dtype is missing"}},
    {"NoShape", Tensor(R"({"dtype":"F32","data_offsets":[0,16]})"), {"w: shape is missing"}},
    {"NoOffsets", Tensor(R"({"dtype":"F32","shape":[4]})"), {"w: data_offsets is missing"}},
    {"OneOffset",
     Tensor(R"({"dtype":"F32","shape":[4],"data_offsets":[16]})"),
     {"w: data_offsets"}},
    {"ThreeOffsets",
     Tensor(R"({"dtype":"F32","shape":[4],"data_offsets":[0,8,16]})"),
     {"w: data_offsets"}},
    {"DtypeIsNumber",
     Tensor(R"({"dtype":32,"shape":[4],"data_offsets":[0,16]})"),
     {"w: dtype: a number is not expected"}},
    {"NegativeShape",
     Tensor(R"({"dtype":"F32","shape":[-4],"data_offsets":[0,16]})"),
     {"w: shape: negative number -4"}},
    {"FractionalShape",
     Tensor(R"({"dtype":"F32","shape":[4.0],"data_offsets":[0,16]})"),
     {"w: shape: 4.0 is not an integer"}},
    {"ShapeOver63Bits",
     Tensor(R"({"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,16]})"),
     {"w: shape: dimension 9223372036854775808"}},
    {"ShapeOver64Bits",
     Tensor(R"({"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,16]})"),
     {"w: shape: 99999999999999999999 is not an integer"}},
    {"ShapeProductOverflows",
     Tensor(R"({"dtype":"F32","shape":[4294967296,4294967297],"data_offsets":[0,16]})"),
     {"w: shape is too large"}},
    // 2^64 wraps to 0, and a zero at the end must not hide it from elements().
    {"ShapeProductOverflowsBeforeAZero",
     Tensor(R"({"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,16]})"),
     {"w: shape is too large"}},
    {"BytesOverflow",
     Tensor(R"({"dtype":"F64","shape":[2305843009213693954],"data_offsets":[0,16]})"),
     {"w: shape is too large"}},
    {"ExtentDiffersFromShape",
     Tensor(R"({"dtype":"F32","shape":[3],"data_offsets":[0,16]})"),
     {"w: shape and dtype F32 ask for 12 bytes, data_offsets give 16"}},
    {"ExtentDiffersFromDtype",
     Tensor(R"({"dtype":"BF16","shape":[4],"data_offsets":[0,16]})"),
     {"w: shape and dtype BF16 ask for 8 bytes"}},
    {"OffsetsReversed",
     Tensor(R"({"dtype":"F32","shape":[4],"data_offsets":[16,0]})"),
     {"w: data_offsets end before they begin"}},
    {"OffsetsPastTheEnd",
     Tensor(R"({"dtype":"F32","shape":[5],"data_offsets":[0,20]})"),
     {"w: data_offsets reach to 20", "16 data bytes"}},
    {"OffsetsNearOverflow",
     Tensor(R"({"dtype":"F32","shape":[4],)"
            R"("data_offsets":[18446744073709551600,18446744073709551615]})"),
     {"w: data_offsets reach to 18446744073709551615"}},
    {"DataCutShort",
     SafetensorsBytes("{\"w\":" + kGood + "}", std::string(15, 'x')),
     {"w: data_offsets reach to 16", "15 data bytes"}},
    {"DataTooLong",
     SafetensorsBytes("{\"w\":" + kGood + "}", std::string(20, 'x')),
     {"4 bytes behind the last tensor"}},
    {"Overlap",
     SafetensorsBytes(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
                      R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                      std::string(16, 'x')),
     {"b: data_offsets overlap another tensor's at 8"}},
    {"SameExtentTwice",
     SafetensorsBytes("{\"a\":" + kGood + ",\"b\":" + kGood + "}", std::string(16, 'x')),
     {"data_offsets overlap another tensor's at 0"}},
    {"Gap",
     SafetensorsBytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                      R"("b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                      std::string(16, 'x')),
     {"b: data_offsets leave a gap at 8"}},
    {"GapInFront",
     Tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[8,16]})"),
     {"w: data_offsets leave a gap at 8"}},
    {"MetadataIsNumber",
     SafetensorsBytes(R"({"__metadata__":{"format":1}})", ""),
     {"__metadata__: format: a number is not expected"}},
    {"MetadataKeyTwice",
     SafetensorsBytes(R"({"__metadata__":{"a":"1","a":"2"}})", ""),
     {"__metadata__: a: the key appears twice"}},
};

INSTANTIATE_TEST_SUITE_P(Safetensors, Malformed, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(SafetensorsMessages, LongAndUnprintableNamesAreMadePrintable) {
  TempDir dir;
  const std::string name = "a\\n" + std::string(5000, 'y');
  const auto file = SafetensorsFile::Open(
      dir.Write("bad.safetensors", SafetensorsBytes("{\"" + name + "\":1}", "")));
  EXPECT_STATUS(file, kInvalidArgument, kModelCorrupt, {"a?yyy"});
  EXPECT_LT(file.status().message().size(), 600u);
}

TEST(SafetensorsFile, ADirectoryIsRefused) {
  TempDir dir;
  EXPECT_FALSE(SafetensorsFile::Open(dir.path()).ok());
}

}  // namespace
}  // namespace svdllm
