#include "server/reflection.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>

namespace svdllm {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;

void Refuse(grpc::StatusCode code, const std::string& message, ServerReflectionResponse& response) {
  response.mutable_error_response()->set_error_code(code);
  response.mutable_error_response()->set_error_message(message);
}

// A file behind those that it imports, each once.
void AddFile(const FileDescriptor* file, std::set<const FileDescriptor*>& added,
             grpc::reflection::v1::FileDescriptorResponse& files) {
  if (!added.insert(file).second) return;
  for (int i = 0; i < file->dependency_count(); ++i) AddFile(file->dependency(i), added, files);
  google::protobuf::FileDescriptorProto copy;
  file->CopyTo(&copy);
  files.add_file_descriptor_proto(copy.SerializeAsString());
}

void AnswerFile(const FileDescriptor* file, const std::string& asked,
                ServerReflectionResponse& response) {
  if (file == nullptr) return Refuse(grpc::NOT_FOUND, "there is no " + asked, response);
  std::set<const FileDescriptor*> added;
  AddFile(file, added, *response.mutable_file_descriptor_response());
}

void Answer(const ServerReflectionRequest& request, const std::vector<std::string>& services,
            ServerReflectionResponse& response) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  switch (request.message_request_case()) {
    case ServerReflectionRequest::kFileByFilename:
      return AnswerFile(pool.FindFileByName(request.file_by_filename()),
                        "file " + request.file_by_filename(), response);
    case ServerReflectionRequest::kFileContainingSymbol:
      return AnswerFile(pool.FindFileContainingSymbol(request.file_containing_symbol()),
                        "symbol " + request.file_containing_symbol(), response);
    case ServerReflectionRequest::kFileContainingExtension: {
      const auto& asked = request.file_containing_extension();
      const auto* const type = pool.FindMessageTypeByName(asked.containing_type());
      const FieldDescriptor* const extension =
          type == nullptr ? nullptr : pool.FindExtensionByNumber(type, asked.extension_number());
      return AnswerFile(extension == nullptr ? nullptr : extension->file(),
                        "extension of " + asked.containing_type(), response);
    }
    case ServerReflectionRequest::kAllExtensionNumbersOfType: {
      const std::string& name = request.all_extension_numbers_of_type();
      const auto* const type = pool.FindMessageTypeByName(name);
      if (type == nullptr) return Refuse(grpc::NOT_FOUND, "there is no type " + name, response);
      std::vector<const FieldDescriptor*> extensions;
      pool.FindAllExtensions(type, &extensions);
      auto& numbers = *response.mutable_all_extension_numbers_response();
      numbers.set_base_type_name(name);
      for (const FieldDescriptor* extension : extensions) {
        numbers.add_extension_number(extension->number());
      }
      return;
    }
    case ServerReflectionRequest::kListServices:
      for (const std::string& service : services) {
        response.mutable_list_services_response()->add_service()->set_name(service);
      }
      return;
    case ServerReflectionRequest::MESSAGE_REQUEST_NOT_SET:
      return Refuse(grpc::INVALID_ARGUMENT, "asks for nothing that is known here", response);
  }
}

}  // namespace

grpc::Status ReflectionService::ServerReflectionInfo(
    grpc::ServerContext*,
    grpc::ServerReaderWriter<ServerReflectionResponse, ServerReflectionRequest>* stream) {
  ServerReflectionRequest request;
  while (stream->Read(&request)) {
    ServerReflectionResponse response;
    response.set_valid_host(request.host());
    *response.mutable_original_request() = request;
    Answer(request, services_, response);
    if (!stream->Write(response)) break;
  }
  return grpc::Status::OK;
}

}  // namespace svdllm
