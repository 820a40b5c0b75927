#include "client/cli/enum_names.h"

#include <gtest/gtest.h>

#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {
namespace {

TEST(EnumNamesTest, ValuesAreSaidWithoutTheirEnumsName) {
  EXPECT_EQ(ShortName(v1::JOB_STATE_QUEUED), "QUEUED");
  EXPECT_EQ(ShortName(v1::METHOD_SVD_LLM), "SVD_LLM");
  EXPECT_EQ(ShortName(v1::METHOD_UNSPECIFIED), "UNSPECIFIED");
  EXPECT_EQ(ShortName(static_cast<v1::Method>(99)), "99") << "a newer server's";
  EXPECT_EQ(FromShortName<v1::Method>("svd_llm"), v1::METHOD_SVD_LLM);
  EXPECT_EQ(FromShortName<v1::JobState>("QUEUED"), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(FromShortName<v1::Method>("svd_lm"), v1::METHOD_UNSPECIFIED);
  EXPECT_EQ(FindShortName(*v1::Method_descriptor(), "svd_lm"), nullptr);
}

TEST(EnumNamesTest, EveryEnumCarriesItsPrefix) {
  const auto* file = v1::Job::descriptor()->file();
  for (int i = 0; i < file->enum_type_count(); ++i) {
    const auto& type = *file->enum_type(i);
    for (int k = 0; k < type.value_count(); ++k) {
      const std::string name = ShortName(type, type.value(k)->number());
      EXPECT_LT(name.size(), type.value(k)->name().size()) << type.value(k)->full_name();
      EXPECT_EQ(FindShortName(type, name), type.value(k)) << type.value(k)->full_name();
    }
  }
}

}  // namespace
}  // namespace svdllm::cli
