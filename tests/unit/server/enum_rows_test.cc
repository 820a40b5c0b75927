// Rows of tables and values of the API's enums, by name.
#include "server/enum_rows.h"

#include <gtest/gtest.h>

#include "job/spec.h"
#include "lowrank/encoding.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {
namespace {

TEST(EnumRowsTest, ARowIsFoundByItsName) {
  EXPECT_EQ(ValueNamed<v1::Method>("svd_llm"), v1::METHOD_SVD_LLM);
  EXPECT_EQ(ValueNamed<v1::Method>("svd_lm"), v1::METHOD_UNSPECIFIED);
  EXPECT_EQ(FindRow(Methods(), v1::METHOD_ASVD)->method, Method::kAsvd);
  EXPECT_EQ(FindRow(Methods(), v1::METHOD_UNSPECIFIED), nullptr);
  EXPECT_EQ(FindRow(Methods(), static_cast<v1::Method>(99)), nullptr);
  v1::Method open = v1::METHOD_UNSPECIFIED, chosen = v1::METHOD_SVD,
             unknown = static_cast<v1::Method>(99);
  EXPECT_EQ(ResolveRow(Methods(), "asvd", open)->name, "asvd");
  EXPECT_EQ(open, v1::METHOD_ASVD);
  EXPECT_EQ(ResolveRow(Methods(), "asvd", chosen)->name, "svd");
  EXPECT_EQ(ResolveRow(Methods(), "asvd", unknown), nullptr);
  EXPECT_EQ(unknown, static_cast<v1::Method>(99)) << "for the error to name";
}

// Each row has a value of its own, and each value but the first a row.
template <typename Enum, typename Row>
void ExpectSame(std::span<const Row> rows) {
  const auto& type = *google::protobuf::GetEnumDescriptor<Enum>();
  EXPECT_EQ(rows.size() + 1, static_cast<size_t>(type.value_count())) << type.name();
  for (int i = 1; i < type.value_count(); ++i) {
    const auto value = static_cast<Enum>(type.value(i)->number());
    EXPECT_NE(FindRow(rows, value), nullptr) << type.value(i)->name();
  }
}

TEST(EnumRowsTest, TablesAndEnumsAreTheSame) {
  ExpectSame<v1::Method>(Methods());
  ExpectSame<v1::Allocation>(Allocations());
  ExpectSame<v1::Encoding>(Encodings());
  ExpectSame<v1::OutputFormat>(OutputFormats());
  ExpectSame<v1::Packing>(Packings());
}

}  // namespace
}  // namespace svdllm
