// A request that is good, for tests that make it better or worse, and the files that it names.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "server/spec_proto.h"
#include "storage/artifact_store.h"
#include "tests/support/temp_dir.h"

namespace svdllm {

class SpecProtoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = temp_.Write("model/config.json", "{}");
    model_ = model_.substr(0, model_.rfind('/'));
    text_ = temp_.Write("text.jsonl", "{}");
    store_ = *NewFileStore({{}, temp_.path() + "/artifacts"});
    request_.set_model(model_);
    request_.add_keep_ratios(0.5);
    request_.mutable_calibration()->mutable_text()->set_uri(text_);
  }
  absl::Status Resolve() { return ResolveRequest(*store_, "default", request_); }

  testing::TempDir temp_;
  std::string model_, text_;
  std::unique_ptr<ArtifactStore> store_;
  v1::CompressModelRequest request_;
};

}  // namespace svdllm
