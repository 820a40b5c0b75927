#include "server/request_checker.h"

#include <cctype>

#include "job/spec.h"
#include "server/enum_rows.h"
#include "server/known_parts.h"
#include "server/spec_proto.h"

namespace svdllm {
namespace {

constexpr int64_t kMaxLimit = 1'000'000'000;
constexpr int64_t kMaxTimeoutSeconds = int64_t{100} * 365 * 86400;

bool IsDuration(const google::protobuf::Duration& duration) {
  return duration.seconds() >= 0 && duration.nanos() >= 0 && duration.nanos() < 1'000'000'000 &&
         duration.seconds() < kMaxTimeoutSeconds;
}

bool IsUuid(const std::string& text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : std::isxdigit(static_cast<unsigned char>(text[i])) == 0) {
      return false;
    }
  }
  return true;
}

}  // namespace

Checker::Checker(const ArtifactStore& store, const google::protobuf::Message& request)
    : store_(store), violations_(UnknownParts(request)) {}

void Checker::Fail(const std::string& field, const std::string& description) {
  violations_.push_back({field, description});
}

bool Checker::Require(bool condition, const std::string& field, const std::string& description) {
  if (!condition) Fail(field, description);
  return condition;
}

bool Checker::Bounded(const std::string& field, const std::string& text, size_t most) {
  return Require(text.size() <= most, field,
                 "has " + std::to_string(text.size()) + " bytes, and at most " +
                     std::to_string(most) + " are taken");
}

bool Checker::Bounded(const std::string& field, int size, int most) {
  return Require(size <= most, field, "at most " + std::to_string(most));
}

void Checker::Share(const std::string& field, double value) {
  Require(value >= 0 && value <= 1, field, "must be 0 to 1");  // false for NaN
}

void Checker::Limit(const std::string& field, int64_t limit) {
  Require(limit >= 0 && limit <= kMaxLimit, field,
          "must be 0, which means all, to " + std::to_string(kMaxLimit));
}

void Checker::SeqLen(const std::string& field, int64_t seq_len) {
  Require(seq_len == 0 || (seq_len >= 2 && seq_len <= kMaxSeqLen), field,
          "must be 2 to " + std::to_string(kMaxSeqLen) + ", or 0 for the default");
}

void Checker::Input(const std::string& field, std::string& uri) {
  if (uri.empty()) return Fail(field, "is required");
  if (Bounded(field, uri, kMaxUriBytes)) Canonical(field, store_.ResolveInput(uri), uri);
}

void Checker::Output(const std::string& field, std::string& uri) {
  if (Bounded(field, uri, kMaxUriBytes)) Canonical(field, store_.ResolveOutput(uri), uri);
}

void Checker::Text(const std::string& field, v1::TextSource& text) {
  Input(field + ".uri", *text.mutable_uri());
  if (text.text_field().empty()) text.set_text_field(TextSource().text_field);
  Bounded(field + ".text_field", text.text_field(), kMaxNameBytes);
  v1::Packing packing = text.packing();
  ResolveRow(Packings(), PackingName(TextSource().packing), packing);
  text.set_packing(packing);
}

absl::Status Checker::Result() const {
  return violations_.empty() ? absl::OkStatus() : InvalidFields(violations_, code_);
}

void Checker::Canonical(const std::string& field, absl::StatusOr<std::string> resolved,
                        std::string& uri) {
  if (resolved.ok()) {
    uri = *std::move(resolved);
    return;
  }
  if (absl::IsPermissionDenied(resolved.status())) code_ = resolved.status().code();
  const absl::string_view message = resolved.status().message();
  Fail(field, std::string(message.data(), message.size()));
}

void Checker::CheckRequestId(const std::string& id) {
  Require(id.empty() || IsUuid(id), "request_id",
          "must be a UUID such as 123e4567-e89b-42d3-a456-426614174000");
}

void Checker::CheckLabels(const google::protobuf::Map<std::string, std::string>& labels) {
  if (!Bounded("labels", static_cast<int>(labels.size()), kMaxLabels)) return;
  for (const auto& [key, value] : labels) {
    Require(!key.empty() && key.size() <= kMaxLabelBytes && value.size() <= kMaxLabelBytes,
            "labels[" + key.substr(0, 32) + "]", "keys have 1 to 128 bytes, values at most 128");
  }
}

void Checker::CheckTimeout(const google::protobuf::Duration& timeout) {
  Require(IsDuration(timeout), "timeout", "must be a duration that is not negative");
}

void Checker::CheckTtl(const google::protobuf::Duration& ttl) {
  Require(IsDuration(ttl) && (ttl.seconds() > 0 || ttl.nanos() >= 1'000'000), "artifact_ttl",
          "must be a duration of at least a millisecond; without it artifacts are kept for good");
}

}  // namespace svdllm
