// Settings that only some methods or allocations read.
#include <gmock/gmock.h>

#include "server/enum_rows.h"
#include "spec_proto_fixture.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class SettingsTest : public SpecProtoTest {
 protected:
  static const google::protobuf::FieldDescriptor* FieldOf(const MethodSetting& setting) {
    return v1::CompressModelRequest::descriptor()->FindFieldByName(std::string(setting.name));
  }
  static bool Reads(const MethodRow& method, const MethodSetting& setting) {
    return std::find(method.settings.begin(), method.settings.end(), setting.name) !=
           method.settings.end();
  }
};

TEST_F(SettingsTest, EachIsAFieldOfItsName) {
  for (const MethodSetting& setting : MethodSettings()) {
    const auto* const field = FieldOf(setting);
    ASSERT_NE(field, nullptr) << setting.name;
    EXPECT_EQ(field->cpp_type(), google::protobuf::FieldDescriptor::CPPTYPE_DOUBLE);
    EXPECT_TRUE(field->has_presence()) << setting.name << ": 0 would be as if left open";
  }
  for (const MethodRow& method : Methods()) {
    for (const std::string_view name : method.settings) EXPECT_NE(FindSetting(name), nullptr);
  }
}

// Of every method and setting: read, filled in and passed on; or absent, and refused when given.
TEST_F(SettingsTest, AreThoseOfTheMethod) {
  const v1::CompressModelRequest good = request_;
  const CompressSpec defaults;
  for (const MethodRow& method : Methods()) {
    request_ = good;
    request_.set_method(ValueNamed<v1::Method>(method.name));
    const v1::CompressModelRequest asked = request_;
    ASSERT_TRUE(Resolve().ok()) << Resolve();
    const v1::CompressModelRequest open = request_;
    for (const MethodSetting& setting : MethodSettings()) {
      const auto* const field = FieldOf(setting);
      const auto& reflection = *request_.GetReflection();
      EXPECT_EQ(reflection.HasField(open, field), Reads(method, setting)) << setting.name;
      request_ = asked;
      reflection.SetDouble(&request_, field, 0.125);
      if (!Reads(method, setting)) {
        EXPECT_THAT(std::string(Resolve().message()),
                    StartsWith(std::string(setting.name) + ": is not read by METHOD_"));
        continue;
      }
      EXPECT_EQ(reflection.GetDouble(open, field), defaults.*setting.value);
      ASSERT_TRUE(Resolve().ok());
      EXPECT_EQ((*ToSpec(request_, *store_, "")).*setting.value, 0.125) << setting.name;
    }
  }
}

TEST_F(SettingsTest, TheErrorNamesTheReader) {
  request_.set_method(v1::METHOD_SVD_LLM);
  request_.set_asvd_alpha(0.5);  // the default, but sent
  request_.set_anchor_blend(0);
  request_.set_min_keep_ratio(0.1);
  EXPECT_EQ(Resolve().message(),
            "asvd_alpha: is not read by METHOD_SVD_LLM, but by METHOD_ASVD; "
            "anchor_blend: is not read by METHOD_SVD_LLM, but by METHOD_ANCHORED; "
            "min_keep_ratio: is not read by ALLOCATION_UNIFORM, but by ALLOCATION_D_RANK, "
            "ALLOCATION_RELATIVE_TAILS, ALLOCATION_KL_PROBE");
}

TEST_F(SettingsTest, OnlyAllocationsWithAFloorHaveOne) {
  const v1::CompressModelRequest good = request_;
  for (const AllocationRow& row : Allocations()) {
    request_ = good;
    request_.set_allocation(ValueNamed<v1::Allocation>(row.name));
    const v1::CompressModelRequest asked = request_;
    ASSERT_TRUE(Resolve().ok());
    EXPECT_EQ(request_.has_min_keep_ratio(), row.has_floor) << row.name;
    request_ = asked;
    request_.set_min_keep_ratio(0.2);
    EXPECT_EQ(Resolve().ok(), row.has_floor) << row.name;
  }
}

// Servers filled in every setting once, whatever the method.
TEST_F(SettingsTest, OfStoredRequestsTheOthersArePassedOver) {
  request_.set_method(v1::METHOD_ASVD);
  ASSERT_TRUE(Resolve().ok());
  request_.set_asvd_alpha(0.75);
  request_.set_anchor_blend(0.5);
  request_.set_anchor_ridge(1e-6);
  request_.set_min_keep_ratio(0.1);
  const auto spec = ToSpec(request_, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->method, Method::kAsvd);
  EXPECT_EQ(spec->asvd_alpha, 0.75);
}

// Before a field existed, nobody stored it.
TEST_F(SettingsTest, OfStoredRequestsWhatIsAbsentIsTheSpecificationsDefault) {
  ASSERT_TRUE(Resolve().ok());
  v1::CompressModelRequest stored;
  stored.set_model(request_.model());
  stored.add_keep_ratios(0.5);
  *stored.mutable_calibration() = request_.calibration();
  const auto spec = ToSpec(stored, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const CompressSpec defaults;
  EXPECT_EQ(spec->method, defaults.method);
  EXPECT_EQ(spec->encoding, defaults.encoding);
  EXPECT_EQ(spec->allocation, defaults.allocation);
  EXPECT_EQ(spec->output_format, defaults.output_format);
  EXPECT_EQ(spec->rank_multiple, 1);
  EXPECT_EQ(spec->min_keep_ratio, defaults.min_keep_ratio);
  for (const MethodSetting& setting : MethodSettings()) {
    EXPECT_EQ((*spec).*setting.value, defaults.*setting.value) << setting.name;
  }
}

}  // namespace
}  // namespace svdllm
