// The targets, a source file per reader or kind of reader.
#pragma once

#include "tests/fuzz/target.h"

namespace svdllm::testing {

// fuzz_files: what lies in files.
FuzzTarget SafetensorsTarget();
FuzzTarget GgufTarget();
FuzzTarget ConfigTarget();
FuzzTarget IndexTarget();
FuzzTarget DirectoryTarget();
FuzzTarget TokenizerJsonTarget();
FuzzTarget VocabMergesTarget();
FuzzTarget RanksTarget();
FuzzTarget SentencePieceTarget();
FuzzTarget RegexTarget();
FuzzTarget Utf8Target();
FuzzTarget JsonTarget();
FuzzTarget TextTarget();
FuzzTarget DatasetTarget();
FuzzTarget UriTarget();

// fuzz_service: what comes over the network, from a command line or out of the job store.
FuzzTarget RequestTarget();
FuzzTarget ListTarget();
FuzzTarget StoredJobTarget();
FuzzTarget HttpTarget();
FuzzTarget NamesTarget();
FuzzTarget RpcErrorTarget();
FuzzTarget RecipeTarget();
FuzzTarget ArgumentsTarget();
FuzzTarget PublishedTarget();

}  // namespace svdllm::testing
