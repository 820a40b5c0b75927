// Whole directories (FuzzDirectory), and the index of one whose shards are sound.
#include "checkpoint/checkpoint.h"
#include "tests/fuzz/targets.h"
#include "tests/support/tiny_checkpoint.h"
#include "tokenizer/tokenizer.h"

namespace svdllm::testing {
namespace {

void UseAll(const Checkpoint& model) {
  FUZZ_CHECK(model.parameters() > 0 && model.weight_bytes() > 0, model.dir());
  for (const std::string& name : model.TensorNames()) {
    const auto spec = model.Spec(name);
    if (!spec.ok()) {
      CheckRefusal(spec.status());
      continue;
    }
    const auto view = model.Tensor(name);
    if (!view.ok()) {
      CheckRefusal(view.status());
      continue;
    }
    FUZZ_CHECK(static_cast<int64_t>(view->bytes.size()) == spec->bytes(), name);
    size_t sum = 0;
    for (const std::byte byte : view->bytes) sum += static_cast<size_t>(byte);
    FUZZ_CHECK(sum < size_t{1} << 30, name);
  }
  const auto files = model.SideFiles();
  if (!files.ok()) CheckRefusal(files.status());
}

void RunDirectory(std::string_view bytes) {
  static FuzzDirectory directory;
  const std::string& dir = directory.Fill(bytes, "config.json");
  const auto model = Checkpoint::Open(dir);
  if (model.ok()) {
    UseAll(*model);
  } else {
    CheckRefusal(model.status());
  }
  const auto tokenizer = Tokenizer::Load(dir);
  if (!tokenizer.ok()) CheckRefusal(tokenizer.status());
}

TinyCheckpointOptions Small() {
  TinyCheckpointOptions options;
  options.hidden_size = 8;
  options.intermediate_size = 8;
  options.num_layers = 1;
  options.num_heads = 2;
  options.num_kv_heads = 1;
  options.dtype = DType::kBF16;
  options.tokenizer = false;
  return options;
}

struct Sharded {
  TempDir dir;
  std::string index = dir.File("model.safetensors.index.json");
  Sharded() {
    TinyCheckpointOptions options = Small();
    options.shards = 3;
    WriteTinyCheckpoint(dir.path(), options);
  }
};

void RunIndex(std::string_view bytes) {
  static const Sharded sharded;
  WriteOrDie(sharded.index, bytes);
  const auto model = Checkpoint::Open(sharded.dir.path());
  if (model.ok()) {
    UseAll(*model);
  } else {
    CheckRefusal(model.status(), {kModelCorrupt, kModelNotFound});
  }
}

const std::vector<std::string>& Words() {
  static const std::vector<std::string> words = {"{",
                                                 "}",
                                                 "[",
                                                 "]",
                                                 "\"",
                                                 ",",
                                                 ":",
                                                 "null",
                                                 "-1",
                                                 "0",
                                                 "\"weight_map\"",
                                                 "\"metadata\"",
                                                 "\"total_size\"",
                                                 "model-00001-of-00003.safetensors",
                                                 "model-00002-of-00003.safetensors",
                                                 "../",
                                                 "/",
                                                 "..",
                                                 ".safetensors",
                                                 "model.layers.0.",
                                                 "self_attn.q_proj.weight",
                                                 "model.embed_tokens.weight",
                                                 "lm_head.weight",
                                                 "\n=== config.json\n",
                                                 "\n=== model.safetensors\n",
                                                 "\n=== model.safetensors.index.json\n",
                                                 "\n=== adapter_config.json\n",
                                                 "\n=== pytorch_model.bin\n",
                                                 "\n=== tokenizer.json\n",
                                                 "\n=== tokenizer.model\n",
                                                 "\n=== model.gguf\n",
                                                 "\n=== generation_config.json\n",
                                                 "\n=== compression_manifest.json\n",
                                                 "\n=== tokenizer.json@\nconfig.json",
                                                 "\n=== config.json@\nconfig.json",
                                                 "\n=== model.safetensors@\n/dev/null",
                                                 "\n=== a.json@\n/",
                                                 "version https://git-lfs.github.com/spec/v1\n",
                                                 "\xff"};
  return words;
}

}  // namespace

FuzzTarget DirectoryTarget() {
  std::vector<std::string> seeds;
  TinyCheckpointOptions options = Small();
  for (const int shards : {1, 2}) {
    const TempDir dir;
    options.shards = shards;
    WriteTinyCheckpoint(dir.path(), options);
    seeds.push_back(FuzzDirectory::Pack(dir.path(), "config.json"));
  }
  options.shards = 1;
  options.ranks = {{"model.layers.0.self_attn.q_proj", 3}, {"model.layers.0.mlp.down_proj", 2}};
  for (const bool pivoted : {false, true}) {
    const TempDir dir;
    options.pivoted = pivoted;
    WriteTinyCheckpoint(dir.path(), options);
    seeds.push_back(FuzzDirectory::Pack(dir.path(), "config.json"));
  }
  return {"directory", RunDirectory, seeds, Words(), size_t{32} << 10};
}

FuzzTarget IndexTarget() {
  const Sharded sharded;
  return {"index", RunIndex, {ReadOrDie(sharded.index), R"({"weight_map": {}})"}, Words()};
}

}  // namespace svdllm::testing
