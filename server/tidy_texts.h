// Texts of files of others, on their way into an answer or a record.
#pragma once

#include <google/protobuf/message.h>

namespace svdllm {

// Makes every text in the message, and in all below it, valid UTF-8 of at most kMaxRecordedBytes:
// with other bytes no client could read the message. URIs are not shortened.
void TidyTexts(google::protobuf::Message& message);

}  // namespace svdllm
