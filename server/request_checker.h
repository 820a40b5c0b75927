// What every part of a request is checked with. Violations are collected, so that a caller hears of
// all of them at once.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "server/status_proto.h"
#include "storage/artifact_store.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

inline constexpr int64_t kMaxSeqLen = 1 << 20;
inline constexpr size_t kMaxUriBytes = 4096;
inline constexpr size_t kMaxNameBytes = 256;  // of names and of a text_field

class Checker {
 public:
  // The store outlives the object. What the request has that this program does not know is the
  // first of its violations.
  Checker(const ArtifactStore& store, const google::protobuf::Message& request);

  void Fail(const std::string& field, const std::string& description);
  // Returns the condition.
  bool Require(bool condition, const std::string& field, const std::string& description);
  // At most so many bytes; returns whether there are.
  bool Bounded(const std::string& field, const std::string& text, size_t most);
  // At most so many elements; returns whether there are, and those of longer lists are not worth a
  // look.
  bool Bounded(const std::string& field, int size, int most);
  void Share(const std::string& field, double value);
  void Limit(const std::string& field, int64_t limit);
  void SeqLen(const std::string& field, int64_t seq_len);

  // A required input, which becomes its canonical form.
  void Input(const std::string& field, std::string& uri);
  void Output(const std::string& field, std::string& uri);
  void Text(const std::string& field, v1::TextSource& text);

  // What both kinds of request have: request_id, labels, timeout, artifact_ttl, display_name.
  template <typename Request>
  void Common(const Request& request) {
    CheckRequestId(request.request_id());
    CheckLabels(request.labels());
    CheckTimeout(request.timeout());
    if (request.has_artifact_ttl()) CheckTtl(request.artifact_ttl());
    Bounded("display_name", request.display_name(), kMaxNameBytes);
  }

  // OK, or one error of all violations.
  absl::Status Result() const;

 private:
  void Canonical(const std::string& field, absl::StatusOr<std::string> resolved, std::string& uri);
  void CheckRequestId(const std::string& id);
  void CheckLabels(const google::protobuf::Map<std::string, std::string>& labels);
  void CheckTimeout(const google::protobuf::Duration& timeout);
  void CheckTtl(const google::protobuf::Duration& ttl);

  const ArtifactStore& store_;
  std::vector<FieldViolation> violations_;
  absl::StatusCode code_ = absl::StatusCode::kInvalidArgument;
};

}  // namespace svdllm
