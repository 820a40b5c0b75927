// Errors as callers get them.
#include "server/status_proto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/utf8.h"
#include "rpc/error_details.pb.h"

namespace svdllm {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

google::rpc::Status Rich(const absl::Status& status) {
  google::rpc::Status rich;
  EXPECT_TRUE(rich.ParseFromString(ErrorDetails(status)));
  return rich;
}

TEST(StatusProtoTest, FieldNamedInAMessageBecomesAViolation) {
  const auto rich = Rich(MakeError(absl::StatusCode::kInvalidArgument, kInvalidField,
                                   "calibration.seq_len: 4096 is more than 2048"));
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad_request;
  ASSERT_EQ(rich.details_size(), 2);
  ASSERT_TRUE(rich.details(0).UnpackTo(&info));
  ASSERT_TRUE(rich.details(1).UnpackTo(&bad_request));
  EXPECT_EQ(info.reason(), "INVALID_FIELD");
  EXPECT_EQ(info.metadata().at("field"), "calibration.seq_len");
  EXPECT_EQ(bad_request.field_violations(0).description(), "4096 is more than 2048");
  EXPECT_EQ(Rich(MakeError(absl::StatusCode::kInvalidArgument, kInvalidField, "No field: here"))
                .details_size(),
            1);
}

TEST(StatusProtoTest, ErrorWithoutAReasonIsInternal) {
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(Rich(absl::UnknownError("x")).details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "INTERNAL");
  EXPECT_EQ(info.domain(), "svdllm");
}

google::rpc::BadRequest BadRequestOf(const absl::Status& status) {
  google::rpc::BadRequest bad_request;
  EXPECT_TRUE(Rich(status).details(1).UnpackTo(&bad_request));
  return bad_request;
}

TEST(StatusProtoTest, AtMost64ViolationsAreNamed) {
  std::vector<FieldViolation> violations;
  for (int i = 0; i < 200; ++i) violations.push_back({"f[" + std::to_string(i) + "]", "is bad"});
  const absl::Status status = InvalidFields(violations);
  const google::rpc::BadRequest named = BadRequestOf(status);
  EXPECT_EQ(named.field_violations_size(), 64);
  EXPECT_EQ(named.field_violations(63).field(), "f[63]");
  const std::string message = ErrorMessage(status);
  EXPECT_THAT(message, HasSubstr("f[0]: is bad; f[1]: is bad"));
  EXPECT_THAT(message, EndsWith(" more"));
  violations.resize(3);
  EXPECT_EQ(ErrorMessage(InvalidFields(violations)), "f[0]: is bad; f[1]: is bad; f[2]: is bad");
}

TEST(StatusProtoTest, LongTextsAreCutBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "ß€";
  const std::vector<FieldViolation> violations(200, {"labels[" + text + "]", text});
  const absl::Status status = InvalidFields(violations);
  const google::rpc::BadRequest named = BadRequestOf(status);
  size_t bytes = 0;
  for (const auto& violation : named.field_violations()) {
    bytes += violation.field().size() + violation.description().size();
    EXPECT_TRUE(IsValidUtf8(violation.field())) << violation.field();
    EXPECT_TRUE(IsValidUtf8(violation.description()));
    EXPECT_THAT(violation.description(), EndsWith("…"));
  }
  EXPECT_GE(named.field_violations_size(), 1);
  EXPECT_LE(bytes, kMaxViolationBytes);
  EXPECT_LE(ErrorMessage(status).size(), kMaxMessageBytes);
  EXPECT_LE(ErrorDetails(status).size(), 6000u);

  const absl::Status other = MakeError(absl::StatusCode::kNotFound, kModelNotFound, text + "\xff");
  EXPECT_LE(ErrorMessage(other).size(), kMaxMessageBytes);
  EXPECT_TRUE(IsValidUtf8(ErrorMessage(other)));
  EXPECT_TRUE(
      IsValidUtf8(ErrorMessage(absl::InternalError("a\xff"
                                                   "b"))));
}

}  // namespace
}  // namespace svdllm
