#include "client/cli/enum_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {
namespace {

TEST(EnumNamesTest, ValuesAreSaidWithoutTheirEnumsName) {
  EXPECT_EQ(ShortName(v1::JOB_STATE_QUEUED), "QUEUED");
  EXPECT_EQ(ShortName(v1::METHOD_SVD_LLM), "SVD_LLM");
  EXPECT_EQ(ShortName(v1::METHOD_UNSPECIFIED), "UNSPECIFIED");
  EXPECT_EQ(ShortName(static_cast<v1::Method>(99)), "99") << "a newer server's";
}

TEST(EnumNamesTest, ThreeSpellingsAreOneValue) {
  for (const char* name : {"svd_llm", "SVD_LLM", "Svd_Llm", "METHOD_SVD_LLM", "method_svd_llm"}) {
    const auto* const value = FindValue(*v1::Method_descriptor(), name);
    ASSERT_NE(value, nullptr) << name;
    EXPECT_EQ(value->number(), v1::METHOD_SVD_LLM) << name;
  }
  for (const char* name :
       {"", "svd_lm", "METHOD_", "unspecified", "METHOD_UNSPECIFIED", "QUEUED"}) {
    EXPECT_EQ(FindValue(*v1::Method_descriptor(), name), nullptr) << name;
  }
}

TEST(EnumNamesTest, FlagsTakeEveryValueButNone) {
  EXPECT_THAT(FlagValues(*v1::Encoding_descriptor()), testing::ElementsAre("plain", "pivoted"));
}

TEST(EnumNamesTest, EveryEnumCarriesItsPrefix) {
  const auto* file = v1::Job::descriptor()->file();
  for (int i = 0; i < file->enum_type_count(); ++i) {
    const auto& type = *file->enum_type(i);
    EXPECT_EQ(FlagValues(type).size(), static_cast<size_t>(type.value_count() - 1));
    for (int k = 0; k < type.value_count(); ++k) {
      const auto* const value = type.value(k);
      const std::string name = ShortName(type, value->number());
      EXPECT_LT(name.size(), value->name().size()) << value->full_name();
      EXPECT_EQ(FindValue(type, name), value->number() == 0 ? nullptr : value)
          << value->full_name();
    }
  }
}

}  // namespace
}  // namespace svdllm::cli
